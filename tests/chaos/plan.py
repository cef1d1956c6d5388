"""Draws a run's plan from a seed: the jobs, the faults that hit each of them, and the faults that hit all programs.

A seed repeats the plan, not the exact run: the timing of processes still varies.
"""

import random
from dataclasses import dataclass

from tests.fixtures.failpoints import failpoints

HITS = {
    "host_killed": 4,
    "worker_killed": 2,
    "child_killed": 3,
    "host_stalled": 2,
    "worker_stalled": 2,
    "host_stalled_briefly": 1,
    "drained": 3,
    "connections_cut": 3,
    "commit_answer_lost": 3,
    "cancelled": 2,
    "paused": 2,
    "paused_and_resumed": 1,
}
"""Maps the faults of a job or its worker to their relative frequency."""
DISTURBANCES = {
    "postgres_stopped": 1,
    "postgres_cut": 2,
    "postgres_slow": 2,
    "redis_flushed": 3,
    "redis_restarted": 2,
    "redis_paused": 2,
    "redis_clients_killed": 2,
    "redis_cut": 1,
    "dispatcher_killed": 2,
    "api_killed": 1,
}
"""Maps the faults of shared parts to their relative frequency."""
SHARE_HIT = 0.85
"""Is the share of jobs that are planned to be hit. Some end before their hit is due."""
SHARE_HIT_TWICE = 0.2
SHARE_FATAL = 0.5
"""Is the share of restarts that have a failpoint set to kill. Many of these are never reached."""
STEPS = {False: (30, 45), True: (60, 60)}
"""Holds the range of steps for scripted and real jobs. Real jobs have the same spec, so that their results can be
compared."""
STEP_MS = 50
SCRIPTED_SECONDS = 1.5
REAL_SECONDS = 1.0
"""Are the shortest durations of training."""


@dataclass(frozen=True)
class Hit:
    kind: str
    after_seconds: float
    """Counts from the start of training in the attempt that is hit."""


@dataclass(frozen=True)
class JobPlan:
    number: int
    real: bool
    seed: int
    steps: int
    priority: int
    hits: tuple[Hit, ...]
    """Lists the hits, at most one per attempt."""
    step_ms: int = STEP_MS
    """Is the duration of a step of a scripted job."""
    save_every: int = 5


@dataclass(frozen=True)
class Disturbance:
    kind: str
    pause_seconds: float
    """Is the pause before it, after the previous one has ended."""
    lasts_seconds: float


@dataclass(frozen=True)
class Fatal:
    """Holds the failpoints that a program is restarted with. None is a start without a failpoint."""

    worker: str | None
    dispatcher: str | None


@dataclass(frozen=True)
class Release:
    """Describes a rolling release of all training workers."""

    after_share: float
    """Starts the release when this share of the jobs is final."""
    changes_numbers: bool
    seed: int
    """Determines the order in which workers are drained."""


def draw_jobs(seed: int, num_jobs: int, num_real: int) -> list[JobPlan]:
    chance = random.Random(f"{seed} jobs")
    real = set(chance.sample(range(num_jobs), num_real))
    return [_draw_job(chance, number, number in real) for number in range(num_jobs)]


def _draw_job(chance: random.Random, number: int, real: bool) -> JobPlan:
    luck = chance.random()
    count = 0 if luck > SHARE_HIT else 1 + (luck < SHARE_HIT_TWICE)
    longest = REAL_SECONDS if real else SCRIPTED_SECONDS
    kinds = chance.choices(list(HITS), list(HITS.values()), k=count)
    return JobPlan(
        number=number,
        real=real,
        seed=0 if real else number,
        steps=chance.randint(*STEPS[real]),
        priority=chance.choice([0, 0, 0, 1]),
        hits=tuple(Hit(kind, round(chance.uniform(0, 0.7) * longest, 2)) for kind in kinds),
    )


def draw_disturbances(seed: int, kinds: dict[str, int], count: int = 1000) -> list[Disturbance]:
    """Draw more disturbances than a run has time for."""
    chance = random.Random(f"{seed} disturbances")
    drawn = chance.choices(list(kinds), list(kinds.values()), k=count)
    return [Disturbance(kind, round(chance.uniform(3, 9), 2), round(chance.uniform(0.5, 3), 2)) for kind in drawn]


def draw_releases(seed: int, *, few: bool) -> list[Release]:
    """Draw the releases. A run of few jobs has time for only one."""
    chance = random.Random(f"{seed} releases")
    shares = {(0.05, 0.15): True} if few else {(0.1, 0.2): False, (0.4, 0.5): True, (0.7, 0.8): False}
    return [
        Release(round(chance.uniform(*share), 3), changes_numbers, chance.randrange(10**6))
        for share, changes_numbers in shares.items()
    ]


def draw_failpoints(seed: int, count: int = 1000) -> list[Fatal]:
    """Draw more failpoints than there will be restarts."""
    chance = random.Random(f"{seed} failpoints")
    places = failpoints()
    of_dispatcher = sorted(name for name, path in places.items() if path == "app/dispatcher.py")
    of_worker = sorted(name for name, path in places.items() if path.startswith(("worker/", "app/storage")))

    def draw(names: list[str]) -> str | None:
        name = chance.choice(names)
        return f"{name}:kill@{chance.randint(1, 3)}" if chance.random() < SHARE_FATAL else None

    return [Fatal(draw(of_worker), draw(of_dispatcher)) for _ in range(count)]
