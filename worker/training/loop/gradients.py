"""Accumulates a step's gradients, micro-batch by micro-batch."""

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
    """Holds what a step reports."""

    num_terms: int
    sums: Counter[str] = field(default_factory=Counter)
    by_line: dict[int, float] = field(default_factory=dict)
    """Holds each row's loss, by line."""

    def means(self) -> dict[str, float]:
        """Return the means by the metric's name: `loss`, and the objective's metrics."""
        return {name: value / self.num_terms for name, value in self.sums.items()}


def accumulate(
    model: Model,
    objective: Objective,
    scaler: torch.amp.GradScaler,
    step: int,
    rows: Sequence[AnyRow],
    watch: Callable[[MicroBatch], None],
) -> GradientResult:
    """Compute the gradients of the objective's mean over the step, independent of the number of micro-batches."""
    before = random_states(model.plan.device)
    learned = _run_micro_batches(model, objective, scaler, rows, watch)
    if not model.careful and not all(losses.isfinite().all() for _, losses in learned):
        model.careful = True  # from here on: it costs little, and a sum that overflowed once will overflow again
        for parameter in model.trainable.values():
            parameter.grad = None
        restore_random_states(before, model.plan.device)
        learned = _run_micro_batches(model, objective, scaler, rows, watch)
    bad = [line for batch, losses in learned for line in batch.lines_of(~losses.isfinite())]
    if bad:
        raise not_finite("loss", step, bad)
    found = GradientResult(objective.num_terms(rows))
    for batch, losses in learned:
        result = objective.summarize(batch, losses)
        found.sums.update(result.sums)
        found.by_line |= result.by_line
    return found


def _run_micro_batches(
    model: Model,
    objective: Objective,
    scaler: torch.amp.GradScaler,
    rows: Sequence[AnyRow],
    watch: Callable[[MicroBatch], None],
) -> list[tuple[MicroBatch, Tensor]]:
    """Return each micro-batch and its losses, on the CPU. The losses are copied at the end, all at once: on a GPU the
    host waits only once a step."""
    num_terms = objective.num_terms(rows)
    batches = pack(rows, model.micro_batch_tokens)
    kept = []
    for batch in batches:
        watch(batch)
        kept.append(_run_backward(model, objective, scaler, batch, num_terms))
    on_cpu = torch.split(torch.cat(kept).cpu(), [len(losses) for losses in kept])
    return list(zip(batches, on_cpu, strict=True))


def _run_backward(
    model: Model, objective: Objective, scaler: torch.amp.GradScaler, batch: MicroBatch, num_terms: int
) -> Tensor:
    """Run forward and backward. The graph is freed on return, before the next one is built."""
    losses, _ = model.losses(batch)
    scaler.scale(objective.sum(batch, losses) / num_terms).backward()  # type: ignore[no-untyped-call]
    return losses.detach()
