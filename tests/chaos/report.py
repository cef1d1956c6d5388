"""What a run comes to: counts, shares and times, beside the damage that the books found."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import select

from app.db.session import Sessions, transaction
from app.db.tables import Attempt, Job, JobEvent
from tests.chaos.conductor import Conductor, Done
from tests.chaos.stack import LEASE_SECONDS, SCALE
from tests.chaos.users import NUMBER

BARS = {"death_to_running_seconds": 75 / SCALE, "flush_to_running_seconds": 10.0, "cancel_to_gone_seconds": 15.0}
"""Of the slowest, or of the 99th of a hundred; the first is in proportion to the lease."""
DEATHS = ("host_killed", "worker_killed")
LEAST_SHARE_HIT = 0.6


class Times(NamedTuple):
    count: int
    median: float | None
    p99: float | None
    longest: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        if not seconds:
            return cls(0, None, None, None)
        ranked = [round(found, 3) for found in sorted(seconds)]
        return cls(len(ranked), ranked[len(ranked) // 2], ranked[math.ceil(0.99 * len(ranked)) - 1], ranked[-1])


def make_report(seed: int, seconds: float, conductor: Conductor, damage: Sequence[str]) -> dict[str, Any]:
    sessions = conductor.stack.sessions
    with transaction(sessions) as session:
        states = Counter(session.scalars(select(Job.state)))
        failed = select(JobEvent.type, JobEvent.data).where(JobEvent.type.in_(["attempt_failed", "job_failed"]))
        failures = Counter(
            f"{kind}, {data['reason']}: {without_ids(data['text'])}" for kind, data in session.execute(failed)
        )
        attempts = Counter(session.scalars(select(Attempt.outcome)))
    num_jobs = len(conductor.users.accepted)
    real = sum(plan.real for plan in conductor.users.accepted.values())
    times = {
        "death_to_running_seconds": Times.of(deaths_to_running(sessions, conductor)),
        "flush_to_running_seconds": Times.of(flushes_to_running(sessions, conductor)),
        "cancel_to_gone_seconds": Times.of(conductor.cancel_seconds),
    }
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "num_jobs": num_jobs,
        "num_real_jobs": real,
        "lease_seconds": LEASE_SECONDS,
        "states": dict(states),
        "failures": dict(failures.most_common()),
        "attempts": {str(outcome): count for outcome, count in attempts.items()},
        "faults": dict(sorted(conductor.counts.items())),
        "failpoints": dict(sorted(Counter(conductor.stack.failpoints_fired()).items())),
        "share_hit_while_training": round(len(conductor.hit_while_training) / max(num_jobs, 1), 3),
        "commit_answers_lost": conductor.stack.postgres_proxy.num_answers_lost,
        "requests_unanswered": conductor.users.num_unanswered,
        "times": {name: found._asdict() for name, found in times.items()},
        "bars": BARS,
        "damage": list(damage),
    }


def without_ids(text: str) -> str:
    """The first of the words, alike for all jobs."""
    return re.sub(r"[0-9a-f]{12,}", "…", " ".join(text.split()))[:160]


def deaths_to_running(sessions: Sessions, conductor: Conductor) -> list[float]:
    """From a worker's death to the next attempt's claim. Not where Postgres was stopped in between: then the sweep
    waits a lease longer, as it must; nor for jobs that were cancelled meanwhile."""
    away = [(began - BARS["death_to_running_seconds"], ended) for began, ended in conductor.faults.postgres_away]
    dead = [
        done
        for done in conductor.done
        if done.kind in DEATHS and not any(began < done.at < ended for began, ended in away)
    ]
    return [seconds for done in dead if (seconds := _until_claim(sessions, done)) is not None]


def _until_claim(sessions: Sessions, done: Done) -> float | None:
    query = select(JobEvent.created_at).where(
        JobEvent.job_id == done.job_id,
        JobEvent.type == "job_claimed",
        JobEvent.data["attempt"].as_integer() == done.attempt + 1,
    )
    with transaction(sessions) as session:
        claimed_at = session.scalars(query).one_or_none()
    return claimed_at.timestamp() - done.at if claimed_at else None


def flushes_to_running(sessions: Sessions, conductor: Conductor) -> list[float]:
    """From a flush of Redis to the claim of the job that was posted right behind it."""
    query = (
        select(Job.metadata_[NUMBER].astext, JobEvent.created_at)
        .join(JobEvent, JobEvent.job_id == Job.id)
        .where(JobEvent.type == "job_claimed", JobEvent.data["attempt"].as_integer() == 1)
    )
    with transaction(sessions) as session:
        claimed = {number: at.timestamp() for number, at in session.execute(query)}
    return [claimed[number] - at for at, number in conductor.flush_times if number in claimed]


def missed_bars(report: dict[str, Any]) -> list[str]:
    missed = [
        f"{name} is {found}, and the bar {bar}"
        for name, bar in report["bars"].items()
        if (found := report["times"][name]["p99"]) is not None and found > bar
    ]
    if report["share_hit_while_training"] < LEAST_SHARE_HIT:
        missed.append(f"only {report['share_hit_while_training']:.0%} of the jobs were hit while training")
    return missed


def describe(report: dict[str, Any]) -> str:
    lines = [
        f"CHAOS_SEED={report['seed']}",
        f"{report['num_jobs']} jobs ({report['num_real_jobs']} in the real child) in {report['seconds']:.0f} s: "
        + ", ".join(f"{count} {state}" for state, count in report["states"].items()),
        "attempts: " + ", ".join(f"{count} {outcome}" for outcome, count in report["attempts"].items()),
        "faults: " + ", ".join(f"{count} {kind}" for kind, count in report["faults"].items()),
        f"failpoints that killed: {sum(report['failpoints'].values())} of {len(report['failpoints'])} names",
        *(f"  {count} times {failure}" for failure, count in report["failures"].items()),
        f"hit while training: {report['share_hit_while_training']:.0%}",
        *(f"{name}: p99 {found['p99']} of {found['count']}" for name, found in report["times"].items()),
        f"damage: {len(report['damage'])}",
        *(f"  {damage}" for damage in report["damage"]),
    ]
    return "\n".join(lines)
