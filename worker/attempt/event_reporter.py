"""What a training process says of its progress, told to its job."""

from collections import deque
from functools import partial

from app.domain.events.job_events import EventBody
from app.domain.jobs.state import JobPhase
from app.jobs.attempts.service import AttemptService
from worker.attempt.fenced_writer import FencedWriter

Word = JobPhase | EventBody


class EventReporter:
    """Told in their order, from one thread. While Postgres is away they wait, and hold up no checkpoint behind them."""

    def __init__(self, fence: FencedWriter) -> None:
        self._fence = fence
        self._phase: JobPhase | None = None
        self._untold: deque[Word] = deque()

    def enter(self, phase: JobPhase) -> None:
        """The worker's own, however long Postgres is away."""
        self.hear(phase)
        self.settle()

    def hear(self, word: Word) -> None:
        """A phase is told once: the child names those that the worker is in already too."""
        if isinstance(word, JobPhase):
            if word is self._phase:
                return
            self._phase = word
        self._untold.append(word)
        if len(self._untold) == 1:
            self.follow()

    def follow(self) -> None:
        """Tell what waits, if Postgres takes it."""
        while self._untold:
            word = self._untold[0]
            if not self._fence.tried(partial(tell, word), step_of(word)):
                return
            self._untold.popleft()

    def settle(self) -> None:
        """Tell what waits, however long Postgres is away."""
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
