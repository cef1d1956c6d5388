"""Decides when checkpoints are written: by steps or by time, whichever comes first, for at most 1 % of the time."""

import math
import time
from collections.abc import Callable
from typing import Final

from app.domain.jobs.training_config import TrainingSpec

SHARE: Final = 0.01
"""Limits the share of the time that checkpoints may cost, unless the spec sets the steps between them."""
PER_JOB: Final = 10
"""Is the number of checkpoints that a job gets with `auto`, where they cost no more than that."""


class SaveTimes:
    """Decides after which steps to save. The expected cost of a checkpoint is that of the previous one: the seconds for
    which training waited, and the processor seconds of the write. The first cost is the dry run's."""

    def __init__(self, training: TrainingSpec, total_steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._is_auto = not isinstance(training.save_every, int)
        self.every = training.save_every if isinstance(training.save_every, int) else math.ceil(total_steps / PER_JOB)
        """Is the number of steps between two checkpoints; with `auto`, the least number."""
        self._every_seconds, self._clock, self._cost = training.save_every_seconds, clock, 0.0
        self.start(0)

    def start(self, step: int) -> None:
        """Start counting at this step."""
        self._saved_step, self._saved_at = step, self._clock()

    def record_save(self, step: int, seconds: float) -> None:
        """Record that the step is saved, and for how many seconds training waited."""
        self.start(step)
        self._cost = seconds

    def add_cost(self, seconds: float) -> None:
        """Add to the cost of the latest checkpoint."""
        self._cost += seconds

    def is_due(self, step: int) -> bool:
        seconds, least_seconds = self._clock() - self._saved_at, self._cost / SHARE
        if seconds >= max(self._every_seconds, least_seconds):
            return True
        if self._is_auto:
            return step - self._saved_step >= self.every and seconds >= least_seconds
        return step % self.every == 0
