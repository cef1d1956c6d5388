"""When checkpoints are written: by steps or by time, whichever comes first, for at most a hundredth of the time."""

import math
import time
from collections.abc import Callable
from typing import Final

from app.domain.jobs.spec import TrainingSpec

SHARE: Final = 0.01
"""Most of the time that checkpoints may cost, unless the spec names the steps between them."""
PER_JOB: Final = 10
"""As many as a job gets by `auto`, where they cost no more than that."""


class SaveTimes:
    """Decides after which steps to save. A checkpoint is taken to cost what the last one did: the seconds for which
    training stood still, and the processor's seconds that writing it took. The dry run's comes first."""

    def __init__(self, training: TrainingSpec, total_steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._is_auto = not isinstance(training.save_every, int)
        self.every = training.save_every if isinstance(training.save_every, int) else math.ceil(total_steps / PER_JOB)
        """Steps between two; at least, for `auto`."""
        self._every_seconds, self._clock, self._cost = training.save_every_seconds, clock, 0.0
        self.start(0)

    def start(self, step: int) -> None:
        """The step after this one comes next."""
        self._saved_step, self._saved_at = step, self._clock()

    def saved(self, step: int, seconds: float) -> None:
        """The step is saved, for which training stood still so long."""
        self.start(step)
        self._cost = seconds

    def add_cost(self, seconds: float) -> None:
        """Of the checkpoint that was saved last."""
        self._cost += seconds

    def is_due(self, step: int) -> bool:
        seconds, least_seconds = self._clock() - self._saved_at, self._cost / SHARE
        if seconds >= max(self._every_seconds, least_seconds):
            return True
        if self._is_auto:
            return step - self._saved_step >= self.every and seconds >= least_seconds
        return step % self.every == 0
