"""A job's events told again: the state they lead to, and whatever does not follow from what came before."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from app.domain.jobs.state import LAPSE, JobState

S = JobState


class Told(NamedTuple):
    number: int
    type: str
    data: dict[str, Any]


class History:
    """`outcomes` are those that the attempts must have; `faults` are sentences."""

    def __init__(self, events: Sequence[Told]) -> None:
        self.state: JobState | None = None
        self.attempt = 0
        self.outcomes: dict[int, str] = {}
        self.faults: list[str] = []
        self.lapsed_from: JobState | None = None
        for expected, event in enumerate(events, start=1):
            if event.number != expected:
                self.faults.append(f"event {expected} is missing or told twice")
                return
            if tell := getattr(self, f"_{event.type}", None):
                tell(event)

    def _from(self, event: Told, *states: JobState | None) -> None:
        if self.state not in states:
            self.faults.append(f"event {event.number} {event.type} in state {self.state}")

    def _own(self, event: Told) -> None:
        if event.data["attempt"] != self.attempt:
            self.faults.append(f"event {event.number} {event.type} of attempt {event.data['attempt']}, not the latest")

    def _is_open(self) -> bool:
        """Whether the latest attempt is under way."""
        return self.attempt > 0 and self.attempt not in self.outcomes

    def _end(self, event: Told, outcome: str) -> None:
        if not self._is_open():
            self.faults.append(f"event {event.number} {event.type} ends an attempt that had ended")
        self.outcomes[self.attempt] = outcome

    def _job_created(self, event: Told) -> None:
        self._from(event, None)
        self.state = S.queued

    def _job_claimed(self, event: Told) -> None:
        self._from(event, S.queued)
        if event.data["attempt"] != self.attempt + 1 or self._is_open():
            self.faults.append(f"attempt {event.data['attempt']} was claimed beside attempt {self.attempt}")
        self.attempt = event.data["attempt"]
        self.state = S.running

    def _attempt_lost(self, event: Told) -> None:
        self._own(event)
        self._end(event, "lost")
        if self.state in LAPSE:
            self.state = LAPSE[self.state]

    def _attempt_recovered(self, event: Told) -> None:
        self._from(event, S.queued)
        self._own(event)
        if self.outcomes.pop(self.attempt, None) != "lost":
            self.faults.append(f"event {event.number}: an attempt was recovered that was not lost")
        self.state = S.running

    def _attempt_released(self, event: Told) -> None:
        self._let_go(event, "released", S.queued)

    def _attempt_failed(self, event: Told) -> None:
        self._let_go(event, "failed", S.paused if self.state is S.pausing else S.queued)

    def _let_go(self, event: Told, outcome: str, target: JobState) -> None:
        """A job that was resumed while it was pausing is queued already, and stays where it is."""
        self._own(event)
        self._end(event, outcome)
        if self.state in (S.running, S.pausing):
            self.state = target

    def _job_resumed(self, event: Told) -> None:
        self._own(event)
        if not self._is_open():
            self.faults.append(f"event {event.number} job_resumed of an attempt that has ended")

    def _training_started(self, event: Told) -> None:
        self._own(event)

    def _pause_requested(self, event: Told) -> None:
        self._from(event, S.running)
        self.state = S.pausing

    def _resume_requested(self, event: Told) -> None:
        self._from(event, S.pausing, S.paused)
        self.state = S.queued

    def _job_paused(self, event: Told) -> None:
        # An attempt's loss or failure is told first, and has already led to `paused`.
        self._from(event, S.queued, S.pausing, S.paused)
        if self.state is S.pausing:
            self._end(event, "paused")
        self.state = S.paused

    def _cancel_requested(self, event: Told) -> None:
        self._from(event, S.running, S.pausing)
        self.state = S.cancelling

    def _job_cancelled(self, event: Told) -> None:
        # As above: a lapsed attempt's loss has already led to `cancelled`.
        self._from(event, S.queued, S.paused, S.cancelling, *([S.cancelled] if self._was("lost") else []))
        if self.state is S.cancelling:
            self._end(event, "cancelled")
        self.state = S.cancelled

    def _job_succeeded(self, event: Told) -> None:
        self._from(event, S.running, S.pausing)
        self._end(event, "succeeded")
        self.state = S.succeeded

    def _job_failed(self, event: Told) -> None:
        # As above: of too many losses the last one has led to `queued`. Else a dataset turned out invalid there, or an
        # attempt failed for good that yielded to a user who had queued or paused the job.
        self._from(event, S.running, S.pausing, S.queued, *([S.paused] if self._is_open() else []))
        if self._is_open():
            self._end(event, "failed")
        self.state = S.failed

    def _was(self, outcome: str) -> bool:
        return self.outcomes.get(self.attempt) == outcome
