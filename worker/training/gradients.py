"""A step's gradients, micro-batch by micro-batch."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from worker.training.failure import not_finite
from worker.training.model import Model
from worker.training.objective import Objective
from worker.training.packing import AnyRow, MicroBatch, pack


@dataclass
class Found:
    """What a step tells."""

    num_terms: int
    sums: Counter[str] = field(default_factory=Counter)
    by_line: dict[int, float] = field(default_factory=dict)
    """Each row's own loss."""

    def means(self) -> dict[str, float]:
        """By the metric's name: `loss`, and the objective's own."""
        return {name: value / self.num_terms for name, value in self.sums.items()}


def accumulate(
    model: Model,
    objective: Objective,
    scaler: torch.amp.GradScaler,
    step: int,
    rows: Sequence[AnyRow],
    watch: Callable[[MicroBatch], None],
) -> Found:
    """Gradients of the objective's mean over the step, whatever micro-batches it takes."""
    found = Found(objective.num_terms(rows))
    for batch in pack(rows, model.micro_batch_tokens):
        watch(batch)
        _learn(model, objective, scaler, step, batch, found)
    return found


def _learn(
    model: Model, objective: Objective, scaler: torch.amp.GradScaler, step: int, batch: MicroBatch, found: Found
) -> None:
    """When it returns the graph is gone, before the next one is built."""
    losses, _ = model.losses(batch)
    finite = torch.isfinite(losses)
    if not finite.all():
        raise not_finite("loss", step, batch.lines_of(~finite))
    judged = objective.judge(batch, losses)
    scaler.scale(judged.loss / found.num_terms).backward()  # type: ignore[no-untyped-call]
    found.sums.update(judged.sums)
    found.by_line |= judged.by_line
