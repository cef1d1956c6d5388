"""A model of one job's life as `docs/lifecycle.md` describes it, independent of the code under test.

The limits are repeated here on purpose: a model that imported them would agree with every mistake in them.
"""

from dataclasses import dataclass, field
from typing import Any

from app.domain.hardware import WorkerHardware
from app.domain.jobs.state import TRANSITIONS, JobState
from app.jobs.queue.repository import Claim

LOSSES_SURVIVED = 20
LOSSES_WITHOUT_A_STEP = 3
LAPSES_INTO = {"running": "queued", "pausing": "paused", "cancelling": "cancelled"}
FINAL = ("succeeded", "failed", "cancelled")
MAY_SUCCEED = ("running", "pausing")
MAY_FAIL = (*MAY_SUCCEED, "queued", "paused")
"""The last two only while the attempt yields."""


@dataclass
class ModelDataset:
    id: str
    project_id: str
    state: str
    deleted: bool = False

    @property
    def usable(self) -> bool:
        return not self.deleted and self.state != "invalid"


@dataclass
class ModelJob:
    id: str
    project_id: str
    dataset: ModelDataset
    priority: int
    device: str
    min_memory_gb: int
    max_retries: int
    keep_checkpoints: int
    lost_attempts: int = 0
    fruitless: int = 0
    retry_of: str | None = None
    state: str = "queued"
    failed_attempts: int = 0
    reason: str | None = None
    claim: Claim | None = None
    """The latest attempt's claim, the only one whose reports are accepted."""
    worker_id: str | None = None
    hold: bool = False
    """The attempt has the lease: in the states of `LAPSES_INTO`, and in other states while it yields."""
    overdue: bool = False
    """The lease has run out, and recovery has not run since."""
    lease_expired: bool = False
    """Queued because its lease ran out; its worker may still recover the attempt."""
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
    def attempt(self) -> int:
        return self.claim.attempt if self.claim else 0

    def fits(self, machine: WorkerHardware) -> bool:
        return (
            self.state == "queued"
            and not self.hold
            and self.device in ("auto", machine.device)
            and self.min_memory_gb <= machine.memory_gb
            and self.dataset.state == "ready"
        )

    def belongs_to(self, claim: Claim) -> bool:
        return not self.deleted and self.claim == claim

    def make_retry(self, id: str) -> "ModelJob":
        """Return the job that a retry creates: the same request, and no history."""
        names = ("project_id", "dataset", "priority", "device", "min_memory_gb", "max_retries", "keep_checkpoints")
        return ModelJob(id, **{name: getattr(self, name) for name in names}, retry_of=self.id)

    def move(self, state: str, *events: str, yields: bool = False) -> None:
        assert JobState(state) in TRANSITIONS[JobState(self.state)]
        self.state = state
        self.lease_expired = False
        self.history += events
        if state not in LAPSES_INTO and not yields:
            self.drop_lease()

    def drop_lease(self) -> None:
        self.hold = self.overdue = False
        self.worker_id = None

    def end(self, state: str, outcome: str, *events: str) -> None:
        """Move the job to `state`, and end its attempt."""
        self.move(state, *events)
        self.attempts[self.attempt] = outcome

    def stop_yielding(self, outcome: str, event: str) -> None:
        """End the yielding attempt; the job keeps the state that a user gave it."""
        self.drop_lease()
        self.history.append(event)
        self.attempts[self.attempt] = outcome

    def cancel(self) -> None:
        if self.state in MAY_SUCCEED:
            self.move("cancelling", "cancel_requested")
        elif self.hold:
            self.end("cancelled", "cancelled", "job_cancelled")
        else:
            self.move("cancelled", "job_cancelled")

    def pause(self) -> None:
        if self.state == "running":
            self.move("pausing", "pause_requested")
        else:
            self.move("paused", "job_paused", yields=self.hold)

    def resume(self) -> None:
        self.move("queued", "resume_requested", yields=self.hold)

    def delete(self) -> None:
        self.deleted = True

    def take(self, claim: Claim, machine: WorkerHardware) -> None:
        assert claim.attempt == self.attempt + 1, "attempt numbers only grow, by one"
        self.move("running", "job_claimed")
        self.claim, self.start_step = claim, None
        self.assign_to(machine)

    def recover_attempt(self, machine: WorkerHardware) -> None:
        """Return the lost attempt to its worker; the loss no longer counts."""
        self.move("running", "attempt_recovered")
        self.lost_attempts -= 1
        self.fruitless = max(self.fruitless - 1, 0)
        self.assign_to(machine)

    def assign_to(self, machine: WorkerHardware) -> None:
        self.hold, self.worker_id = True, machine.worker_id
        self.attempts[self.attempt] = "open"

    def lose(self) -> None:
        if self.state not in LAPSES_INTO:
            # The attempt was about to stop; no loss is counted.
            self.stop_yielding("lost", "attempt_lost")
            return
        progressed = self.start_step is not None and self.step > self.start_step
        self.lost_attempts += 1
        self.fruitless = 0 if progressed else self.fruitless + 1
        if self.state == "running" and (
            self.lost_attempts > LOSSES_SURVIVED or self.fruitless >= LOSSES_WITHOUT_A_STEP
        ):
            self.end("failed", "lost", "attempt_lost", "job_failed")
            self.reason = "crash_loop"
            return
        next_state = LAPSES_INTO[self.state]
        events = {"queued": [], "paused": ["job_paused"], "cancelled": ["job_cancelled"]}[next_state]
        self.end(next_state, "lost", "attempt_lost", *events)
        self.lease_expired = next_state == "queued"

    def fail(self, reason: str) -> None:
        self.failed_attempts += 1
        if self.failed_attempts > self.max_retries:
            if self.state == "paused":
                self.move("queued", yields=True)
            self.end("failed", "failed", "job_failed")
            self.reason = reason
        elif self.state not in MAY_SUCCEED:
            self.stop_yielding("failed", "attempt_failed")
        elif self.state == "pausing":
            self.end("paused", "failed", "attempt_failed", "job_paused")
        else:
            self.end("queued", "failed", "attempt_failed")

    def release(self) -> None:
        match self.state:
            case "running":
                self.end("queued", "released", "attempt_released")
            case "pausing":
                self.end("paused", "paused", "job_paused")
            case "cancelling":
                self.end("cancelled", "cancelled", "job_cancelled")
            case _:
                self.stop_yielding("released", "attempt_released")

    def refuse(self) -> None:
        self.move("failed", "job_failed")
        self.reason = "dataset_invalid"

    def plan(self, start_step: int) -> None:
        self.step = self.start_step = start_step
        if self.attempt > 1 or start_step > 0:  # a retry may resume from an earlier job's checkpoint
            self.history.append("job_resumed")

    def record(self, step: int, value: int) -> None:
        """Store a value; a value that is stored already does not change."""
        self.step = max(self.step, step)
        self.points.setdefault((self.attempt, "loss", step), value)

    def save_checkpoint(self, step: int) -> None:
        self.history.append("checkpoint_saved")
        furthest = sorted({*self.checkpoints, (step, self.attempt)}, reverse=True)
        self.checkpoints = furthest[: self.keep_checkpoints]

    def give_up_checkpoint(self, attempt: int, step: int) -> None:
        self.history.append("warning_issued")
        self.checkpoints = [kept for kept in self.checkpoints if kept != (step, attempt)]

    def publish(self, paths: list[str]) -> None:
        self.end("succeeded", "succeeded", "job_succeeded")
        self.artifacts = sorted((self.attempt, path) for path in paths)

    def row(self) -> dict[str, Any]:
        """Return the row that `SHOWN` of `job_world` must read for this job."""
        return {
            "id": self.id,
            "state": self.state,
            "attempt": self.attempt,
            "worker_id": self.worker_id,
            "leased": self.hold,
            "retry_of": self.retry_of,
            "finished": self.state in FINAL,
            "in_use": self.state not in FINAL,
            "failed_attempts": self.failed_attempts,
            "lost_attempts": self.lost_attempts,
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
