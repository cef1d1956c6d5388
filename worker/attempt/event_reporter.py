"""Records the phases and events that a training process reports in its job."""

from collections import deque
from functools import partial

from app.domain.events.job_events import EventBody
from app.domain.jobs.state import JobPhase
from app.jobs.attempts.service import AttemptService
from worker.attempt.fenced_writer import FencedWriter

Word = JobPhase | EventBody


class EventReporter:
    """Writes phases and events in order, from one thread. While PostgreSQL is unreachable they are queued, and do not
    block later checkpoints."""

    def __init__(self, fence: FencedWriter) -> None:
        self._fence = fence
        self._phase: JobPhase | None = None
        self._untold: deque[Word] = deque()

    def enter(self, phase: JobPhase) -> None:
        """Record a phase of the worker itself, and wait until PostgreSQL accepts it."""
        self.hear(phase)
        self.settle()

    def hear(self, word: Word) -> None:
        """Queue a phase or an event. A repeated phase is ignored: the training process also reports phases that the
        worker has already entered."""
        if isinstance(word, JobPhase):
            if word is self._phase:
                return
            self._phase = word
        self._untold.append(word)
        if len(self._untold) == 1:
            self.follow()

    def follow(self) -> None:
        """Write the queue until it is empty or PostgreSQL is unreachable."""
        while self._untold:
            word = self._untold[0]
            if not self._fence.tried(partial(tell, word), step_of(word)):
                return
            self._untold.popleft()

    def settle(self) -> None:
        """Write the whole queue, and wait while PostgreSQL is unreachable."""
        while self._untold:
            word = self._untold[0]
            if isinstance(word, JobPhase):
                self._fence.write(partial(tell, word), "enter_phase")
            else:
                self._fence.write(partial(tell, word), "append_event")
            self._untold.popleft()


def tell(word: Word, attempt: AttemptService) -> None:
    if isinstance(word, JobPhase):
        attempt.enter(word)
    else:
        attempt.append_event(word)


def step_of(word: Word) -> str:
    return "enter_phase" if isinstance(word, JobPhase) else "append_event"
