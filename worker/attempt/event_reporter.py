"""Records the phases and events that a training process reports in its job."""

from collections import deque
from functools import partial

from app.domain.events.job_events import EventBody
from app.domain.jobs.state import JobPhase
from app.jobs.attempts.service import AttemptService
from worker.attempt.fenced_writer import FencedWriter

PhaseOrEvent = JobPhase | EventBody


class EventReporter:
    """Writes phases and events in order, from one thread. While PostgreSQL is unreachable they are queued and do not
    block later checkpoints."""

    def __init__(self, fence: FencedWriter) -> None:
        self._fence = fence
        self._phase: JobPhase | None = None
        self._queue: deque[PhaseOrEvent] = deque()

    def enter_phase(self, phase: JobPhase) -> None:
        """Record a phase of the worker itself, and wait until PostgreSQL accepts it."""
        self.report(phase)
        self.flush()

    def report(self, entry: PhaseOrEvent) -> None:
        """Queue a phase or an event. A repeated phase is ignored: the training process also reports phases that the
        worker has already entered."""
        if isinstance(entry, JobPhase):
            if entry is self._phase:
                return
            self._phase = entry
        self._queue.append(entry)
        if len(self._queue) == 1:
            self.write_queued()

    def write_queued(self) -> None:
        """Write the queue until it is empty or PostgreSQL is unreachable."""
        while self._queue:
            entry = self._queue[0]
            if not self._fence.try_write(partial(record, entry), step_of(entry)):
                return
            self._queue.popleft()

    def flush(self) -> None:
        """Write the whole queue, and wait while PostgreSQL is unreachable."""
        while self._queue:
            entry = self._queue[0]
            if isinstance(entry, JobPhase):
                self._fence.write(partial(record, entry), "enter_phase")
            else:
                self._fence.write(partial(record, entry), "append_event")
            self._queue.popleft()


def record(entry: PhaseOrEvent, attempt: AttemptService) -> None:
    if isinstance(entry, JobPhase):
        attempt.enter(entry)
    else:
        attempt.append_event(entry)


def step_of(entry: PhaseOrEvent) -> str:
    return "enter_phase" if isinstance(entry, JobPhase) else "append_event"
