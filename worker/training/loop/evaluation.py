"""Measures loss and accuracy on rows that are not trained on."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields

import torch

from worker.training.checkpoint.train_state import Evaluation
from worker.training.data.packing import AnyRow, MicroBatch, pack
from worker.training.loop.objectives import Objective
from worker.training.model.loading import Model
from worker.training.runtime.errors import not_finite


@torch.no_grad()
def evaluate(
    model: Model, objective: Objective, rows: Sequence[AnyRow], step: int, watch: Callable[[MicroBatch], None]
) -> Evaluation:
    """Return the objective's means after `step`. `watch` receives each micro-batch before it is computed, and may
    raise."""
    sums, num_terms = Counter[str](), 0
    model.causal.eval()
    try:
        for batch in pack(rows, model.micro_batch_tokens):
            watch(batch)
            losses, hits = model.losses(batch, with_hits=objective.counts_hits)
            losses, hits = losses.cpu(), hits.cpu()
            finite = torch.isfinite(losses)
            if not finite.all():
                raise not_finite("validation loss", step, batch.lines_of(~finite))
            sums.update(objective.summarize(batch, losses, hits).sums)
            num_terms += objective.num_terms(batch.rows)
    finally:
        model.causal.train()
    known = {field.name for field in fields(Evaluation)}
    return Evaluation(step, **{name: value / num_terms for name, value in sums.items() if name in known})
