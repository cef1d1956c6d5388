"""What must hold of one job, in the words of `docs/lifecycle.md` and without a look at the code that makes it so.

The numbers stand here once more on purpose: a model that asked the code for them would agree with every mistake.
"""

from dataclasses import dataclass, field
from typing import Any

from app.domain.job import TRANSITIONS, JobState
from app.domain.machine import Machine
from app.jobs.queue import Claim

LOSSES_SURVIVED = 20
LOSSES_WITHOUT_A_STEP = 3
LAPSES_INTO = {"running": "queued", "pausing": "paused", "cancelling": "cancelled"}
FINAL = ("succeeded", "failed", "cancelled")
MAY_END = ("running", "pausing")
"""States in which an attempt may still succeed, fail or give its job back."""


@dataclass
class ModelDataset:
    id: str
    project_id: str
    state: str
    deleted: bool = False


@dataclass
class ModelJob:
    id: str
    project_id: str
    datasets: list[ModelDataset]
    priority: int
    device: str
    min_memory_gb: int
    max_retries: int
    keep_checkpoints: int
    losses: int
    state: str = "queued"
    failures: int = 0
    fruitless: int = 0
    reason: str | None = None
    claim: Claim | None = None
    """Of the latest attempt; the only one whose words count."""
    worker_id: str | None = None
    overdue: bool = False
    """Its lease has run out, and no sweep has noticed."""
    lapsed: bool = False
    """Queued because its lease ran out, so that its worker may still take it up again."""
    step: int = 0
    start_step: int | None = None
    attempts: dict[int, str] = field(default_factory=dict)
    points: dict[tuple[int, str, int], int] = field(default_factory=dict)
    checkpoints: list[tuple[int, int]] = field(default_factory=list)
    """(step, attempt)"""
    artifacts: list[tuple[int, str]] = field(default_factory=list)
    history: list[str] = field(default_factory=lambda: ["job_created"])
    deleted: bool = False

    @property
    def held(self) -> bool:
        return self.state in LAPSES_INTO

    @property
    def attempt(self) -> int:
        return self.claim.attempt if self.claim else 0

    def fits(self, machine: Machine) -> bool:
        return (
            self.state == "queued"
            and self.device in ("auto", machine.device)
            and self.min_memory_gb <= machine.memory_gb
            and all(dataset.state == "ready" for dataset in self.datasets)
        )

    def belongs_to(self, claim: Claim) -> bool:
        return not self.deleted and self.claim == claim

    def move(self, state: str, *events: str) -> None:
        assert JobState(state) in TRANSITIONS[JobState(self.state)]
        self.state = state
        self.overdue = self.lapsed = False
        if not self.held:
            self.worker_id = None
        self.history += events

    def end(self, state: str, outcome: str, *events: str) -> None:
        """By the word of its attempt."""
        self.move(state, *events)
        self.attempts[self.attempt] = outcome

    def take(self, claim: Claim, machine: Machine) -> None:
        assert claim.attempt == self.attempt + 1, "attempt numbers only grow, by one"
        self.move("running", "job_claimed")
        self.claim, self.worker_id, self.start_step = claim, machine.worker_id, None
        self.attempts[claim.attempt] = "open"

    def take_up_again(self, machine: Machine) -> None:
        """Its worker was only cut off; the loss is forgiven."""
        self.move("running", "attempt_recovered")
        self.worker_id = machine.worker_id
        self.losses -= 1
        self.fruitless = max(self.fruitless - 1, 0)
        self.attempts[self.attempt] = "open"

    def lose(self) -> None:
        progressed = self.start_step is not None and self.step > self.start_step
        self.losses += 1
        self.fruitless = 0 if progressed else self.fruitless + 1
        if self.state == "running" and (self.losses > LOSSES_SURVIVED or self.fruitless >= LOSSES_WITHOUT_A_STEP):
            self.end("failed", "lost", "attempt_lost", "job_failed")
            self.reason = "crash_loop"
            return
        onward = LAPSES_INTO[self.state]
        told = {"queued": [], "paused": ["job_paused"], "cancelled": ["job_cancelled"]}[onward]
        self.end(onward, "lost", "attempt_lost", *told)
        self.lapsed = onward == "queued"

    def fail(self, reason: str) -> None:
        again = self.state == "running" and self.failures < self.max_retries
        self.failures += 1
        if again:
            self.end("queued", "failed", "attempt_failed")
            return
        self.end("failed", "failed", "job_failed")
        self.reason = reason

    def refuse(self) -> None:
        self.move("failed", "job_failed")
        self.reason = "dataset_invalid"

    def plan(self, start_step: int) -> None:
        self.step = self.start_step = start_step
        if self.attempt > 1:
            self.history.append("job_resumed")

    def record(self, step: int, value: int) -> None:
        """A point that was stored stays as it was first told."""
        self.step = max(self.step, step)
        self.points.setdefault((self.attempt, "loss", step), value)

    def save_checkpoint(self, step: int) -> None:
        self.history.append("checkpoint_saved")
        furthest = sorted({*self.checkpoints, (step, self.attempt)}, reverse=True)
        self.checkpoints = furthest[: self.keep_checkpoints]

    def give_up_checkpoint(self, step: int, attempt: int) -> None:
        self.history.append("warned")
        self.checkpoints = [kept for kept in self.checkpoints if kept != (step, attempt)]

    def publish(self, paths: list[str]) -> None:
        self.end("succeeded", "succeeded", "job_succeeded")
        self.artifacts = sorted((self.attempt, path) for path in paths)

    def row(self) -> dict[str, Any]:
        """What the database must show: `SHOWN` of `job_world`."""
        return {
            "id": self.id,
            "state": self.state,
            "attempt": self.attempt,
            "worker_id": self.worker_id,
            "leased": self.held,
            "finished": self.state in FINAL,
            "in_use": self.state not in FINAL,
            "failures": self.failures,
            "losses": self.losses,
            "fruitless": self.fruitless,
            "reason": self.reason,
            "step": self.step,
            "numbers": list(range(1, len(self.history) + 1)),
            "last_event_number": len(self.history),
            "history": self.history,
            "attempts": [f"{number} {outcome}" for number, outcome in sorted(self.attempts.items())],
            "points": [
                f"{number} {name} {step}: {value}" for (number, name, step), value in sorted(self.points.items())
            ],
            "checkpoints": [f"{step} {attempt}" for step, attempt in sorted(self.checkpoints)],
            "artifacts": [f"{attempt} {path}" for attempt, path in self.artifacts],
        }
