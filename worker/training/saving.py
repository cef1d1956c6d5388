"""When checkpoints are written: by steps or by time, whichever comes first, for at most a hundredth of the time."""

import math
import time
from collections.abc import Callable
from typing import Final

from app.domain.spec import Training

SHARE: Final = 0.01
"""Most of the time that checkpoints may cost, unless the spec names the steps between them."""
PER_JOB: Final = 10
"""As many as a short job gets, where they cost no more than that."""
TIMED_STEPS: Final = 5


class SaveTimes:
    """Decides after which steps to save. A checkpoint is taken to cost what the last one did: the seconds for which
    training stood still, and the processor's seconds that writing it took. The dry run's comes first."""

    def __init__(self, training: Training, total_steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.every = training.save_every if isinstance(training.save_every, int) else None
        """Steps between two; null until so many are timed as to say."""
        self._is_bound = self.every is None
        self._every_seconds, self._total_steps, self._clock = training.save_every_seconds, total_steps, clock
        self._cost = 0.0
        self._began = self._saved_at = clock()
        self._num_steps = self._num_unsaved = 0

    def start(self) -> None:
        """The first step comes next."""
        self._began = self._saved_at = self._clock()

    def saved(self, seconds: float) -> None:
        """A step is saved, for which training stood still so long."""
        self._saved_at, self._num_unsaved, self._cost = self._clock(), 0, seconds

    def add_cost(self, seconds: float) -> None:
        """Of the checkpoint that was saved last."""
        self._cost += seconds

    def end_step(self) -> bool:
        """Count a step; whether `every` is decided by it."""
        self._num_steps, self._num_unsaved = self._num_steps + 1, self._num_unsaved + 1
        if self.every is not None or self._num_steps < min(TIMED_STEPS, math.ceil(self._total_steps / PER_JOB)):
            return False
        step_seconds = max((self._clock() - self._began) / self._num_steps, 1e-6)
        least = math.ceil(self._least_seconds() / step_seconds)
        self.every = max(least, math.ceil(self._total_steps / PER_JOB))
        return True

    def is_due(self, step: int) -> bool:
        seconds = self._clock() - self._saved_at
        if seconds >= max(self._every_seconds, self._least_seconds()):
            return True
        if self.every is None:
            return False
        if self._is_bound:
            return self._num_unsaved >= self.every and seconds >= self._least_seconds()
        return step % self.every == 0

    def _least_seconds(self) -> float:
        return self._cost / SHARE
