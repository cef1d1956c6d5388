"""Takes one optimizer step: the gradients of its rows, their norm, and the update."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from app.domain.events.job_events import StepSkipped
from app.domain.jobs.training_config import TrainingSpec
from worker.training.data.packing import AnyRow, MicroBatch
from worker.training.loop.gradients import GradientResult, accumulate
from worker.training.loop.objectives import Objective
from worker.training.loop.oom_fallback import OutOfMemoryFallback
from worker.training.loop.optimizer import learning_rate, set_learning_rate
from worker.training.model.loading import Model
from worker.training.runtime.errors import not_finite


@dataclass(frozen=True)
class Stepping:
    """Holds everything that a step needs."""

    model: Model
    objective: Objective
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    fallback: OutOfMemoryFallback
    training: TrainingSpec
    total_steps: int

    def take_step(
        self,
        step: int,
        rows: Sequence[AnyRow],
        watch: Callable[[MicroBatch], None],
        report: Callable[[StepSkipped], None],
    ) -> tuple[GradientResult, dict[str, float]]:
        """Return the rows' results, and the metrics `learning_rate` and `grad_norm`. With a loss scale, a step whose
        gradients overflow changes no weight and sends an event."""
        found = self.fallback.run(step, lambda: accumulate(self.model, self.objective, self.scaler, step, rows, watch))
        norm = self._clip(step, rows)
        rate = learning_rate(step, self.total_steps, self.training)
        set_learning_rate(self.optimizer, rate)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if not math.isfinite(norm):
            report(StepSkipped(step=step, loss_scale=self.scaler.get_scale()))
        return found, {"learning_rate": rate, "grad_norm": norm}

    def _clip(self, step: int, rows: Sequence[AnyRow]) -> float:
        self.scaler.unscale_(self.optimizer)
        limit = self.training.max_grad_norm or float("inf")
        norm = float(nn.utils.clip_grad_norm_(self.model.trainable.values(), limit))
        if not math.isfinite(norm) and not self.scaler.is_enabled():  # an enabled scaler skips such a step
            raise not_finite("gradient", step, [row.line for row in rows])
        return norm
