"""Replays a job's events: computes the state they lead to, and finds events that contradict earlier ones."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from app.domain.jobs.state import LAPSE, JobState

S = JobState


class RecordedEvent(NamedTuple):
    number: int
    type: str
    data: dict[str, Any]


class History:
    """Replays events. `outcomes` are the attempts' expected outcomes, `faults` describe contradictions."""

    def __init__(self, events: Sequence[RecordedEvent]) -> None:
        self.state: JobState | None = None
        self.attempt = 0
        self.outcomes: dict[int, str] = {}
        self.faults: list[str] = []
        self.lapsed_from: JobState | None = None
        for expected, event in enumerate(events, start=1):
            if event.number != expected:
                self.faults.append(f"event {expected} is missing or repeated")
                return
            if apply := getattr(self, f"_{event.type}", None):
                apply(event)

    def _check_state(self, event: RecordedEvent, *states: JobState | None) -> None:
        if self.state not in states:
            self.faults.append(f"event {event.number} {event.type} in state {self.state}")

    def _check_attempt(self, event: RecordedEvent) -> None:
        if event.data["attempt"] != self.attempt:
            self.faults.append(f"event {event.number} {event.type} of attempt {event.data['attempt']}, not the latest")

    def _is_open(self) -> bool:
        """Return whether the latest attempt has not ended."""
        return self.attempt > 0 and self.attempt not in self.outcomes

    def _end(self, event: RecordedEvent, outcome: str) -> None:
        if not self._is_open():
            self.faults.append(f"event {event.number} {event.type} ends an attempt that had ended")
        self.outcomes[self.attempt] = outcome

    def _job_created(self, event: RecordedEvent) -> None:
        self._check_state(event, None)
        self.state = S.queued

    def _job_claimed(self, event: RecordedEvent) -> None:
        self._check_state(event, S.queued)
        if event.data["attempt"] != self.attempt + 1 or self._is_open():
            self.faults.append(f"attempt {event.data['attempt']} was claimed during attempt {self.attempt}")
        self.attempt = event.data["attempt"]
        self.state = S.running

    def _attempt_lost(self, event: RecordedEvent) -> None:
        self._check_attempt(event)
        self._end(event, "lost")
        if self.state in LAPSE:
            self.state = LAPSE[self.state]

    def _attempt_recovered(self, event: RecordedEvent) -> None:
        self._check_state(event, S.queued)
        self._check_attempt(event)
        if self.outcomes.pop(self.attempt, None) != "lost":
            self.faults.append(f"event {event.number}: the recovered attempt was not lost")
        self.state = S.running

    def _attempt_released(self, event: RecordedEvent) -> None:
        self._release(event, "released", S.queued)

    def _attempt_failed(self, event: RecordedEvent) -> None:
        self._release(event, "failed", S.paused if self.state is S.pausing else S.queued)

    def _release(self, event: RecordedEvent, outcome: str, target: JobState) -> None:
        """End the attempt. A job that was resumed while it was pausing is queued already and stays queued."""
        self._check_attempt(event)
        self._end(event, outcome)
        if self.state in (S.running, S.pausing):
            self.state = target

    def _job_resumed(self, event: RecordedEvent) -> None:
        self._check_attempt(event)
        if not self._is_open():
            self.faults.append(f"event {event.number} job_resumed of an attempt that has ended")

    def _training_started(self, event: RecordedEvent) -> None:
        self._check_attempt(event)

    def _pause_requested(self, event: RecordedEvent) -> None:
        self._check_state(event, S.running)
        self.state = S.pausing

    def _resume_requested(self, event: RecordedEvent) -> None:
        self._check_state(event, S.pausing, S.paused)
        self.state = S.queued

    def _job_paused(self, event: RecordedEvent) -> None:
        # An attempt's loss or failure is recorded first, and has already led to `paused`.
        self._check_state(event, S.queued, S.pausing, S.paused)
        if self.state is S.pausing:
            self._end(event, "paused")
        self.state = S.paused

    def _cancel_requested(self, event: RecordedEvent) -> None:
        self._check_state(event, S.running, S.pausing)
        self.state = S.cancelling

    def _job_cancelled(self, event: RecordedEvent) -> None:
        # As above: the loss of an expired attempt has already led to `cancelled`.
        self._check_state(event, S.queued, S.paused, S.cancelling, *([S.cancelled] if self._was("lost") else []))
        if self.state is S.cancelling:
            self._end(event, "cancelled")
        self.state = S.cancelled

    def _job_succeeded(self, event: RecordedEvent) -> None:
        self._check_state(event, S.running, S.pausing)
        self._end(event, "succeeded")
        self.state = S.succeeded

    def _job_failed(self, event: RecordedEvent) -> None:
        # As above: the last of too many losses has led to `queued`. Otherwise the dataset was invalid, or the attempt
        # failed for good after a user had queued or paused the job.
        self._check_state(event, S.running, S.pausing, S.queued, *([S.paused] if self._is_open() else []))
        if self._is_open():
            self._end(event, "failed")
        self.state = S.failed

    def _was(self, outcome: str) -> bool:
        return self.outcomes.get(self.attempt) == outcome
