"""A step's gradients, micro-batch by micro-batch."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from worker.training.checkpoint.checkpoint import random_states, restore_random_states
from worker.training.data.packing import AnyRow, MicroBatch, pack
from worker.training.loop.objectives import Objective
from worker.training.model.loading import Model
from worker.training.runtime.errors import not_finite


@dataclass
class GradientResult:
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
) -> GradientResult:
    """Gradients of the objective's mean over the step, whatever micro-batches it takes."""
    before = random_states(model.plan.device)
    learned = _learn(model, objective, scaler, rows, watch)
    if not model.careful and not all(losses.isfinite().all() for _, losses in learned):
        model.careful = True  # from here on: it costs little, and what overflowed once will again
        for parameter in model.trainable.values():
            parameter.grad = None
        restore_random_states(before, model.plan.device)
        learned = _learn(model, objective, scaler, rows, watch)
    bad = [line for batch, losses in learned for line in batch.lines_of(~losses.isfinite())]
    if bad:
        raise not_finite("loss", step, bad)
    found = GradientResult(objective.num_terms(rows))
    for batch, losses in learned:
        told = objective.tell(batch, losses)
        found.sums.update(told.sums)
        found.by_line |= told.by_line
    return found


def _learn(
    model: Model,
    objective: Objective,
    scaler: torch.amp.GradScaler,
    rows: Sequence[AnyRow],
    watch: Callable[[MicroBatch], None],
) -> list[tuple[MicroBatch, Tensor]]:
    """Each micro-batch and its losses, on the CPU. These come at the end, all at once: on a GPU the host waits once a
    step, and runs ahead till then."""
    num_terms = objective.num_terms(rows)
    batches = pack(rows, model.micro_batch_tokens)
    kept = []
    for batch in batches:
        watch(batch)
        kept.append(_go_backward(model, objective, scaler, batch, num_terms))
    on_cpu = torch.split(torch.cat(kept).cpu(), [len(losses) for losses in kept])
    return list(zip(batches, on_cpu, strict=True))


def _go_backward(
    model: Model, objective: Objective, scaler: torch.amp.GradScaler, batch: MicroBatch, num_terms: int
) -> Tensor:
    """When it returns the graph is gone, before the next one is built."""
    losses, _ = model.losses(batch)
    scaler.scale(objective.sum(batch, losses) / num_terms).backward()  # type: ignore[no-untyped-call]
    return losses.detach()
