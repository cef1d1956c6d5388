"""Loss and token accuracy on rows that are not trained on, the best step by them, and when to stop."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from app.domain.spec import EarlyStopping
from worker.training.failure import not_finite
from worker.training.model import Model
from worker.training.packing import Example, MicroBatch, pack


@dataclass(frozen=True)
class Evaluation:
    step: int
    loss: float
    token_accuracy: float


@dataclass
class Evaluations:
    """What became of them so far."""

    last: Evaluation | None = None
    best: Evaluation | None = None
    """The one of lowest loss; of equals, the first."""
    loss_to_beat: float | None = None
    """Of the last improvement that early stopping counted as one."""
    num_without_improvement: int = 0

    def add(self, evaluation: Evaluation, min_delta: float = 0.0) -> bool:
        """Whether it is the best so far. A slow fall is an improvement once it adds up to more than `min_delta`."""
        self.last = evaluation
        if self.loss_to_beat is None or evaluation.loss < self.loss_to_beat - min_delta:
            self.loss_to_beat, self.num_without_improvement = evaluation.loss, 0
        else:
            self.num_without_improvement += 1
        is_best = self.best is None or evaluation.loss < self.best.loss
        if is_best:
            self.best = evaluation
        return is_best

    def exhaust(self, early_stopping: EarlyStopping | None) -> bool:
        return early_stopping is not None and self.num_without_improvement >= early_stopping.patience

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, written: dict[str, Any]) -> "Evaluations":
        parts = {name: Evaluation(**written[name]) if written[name] else None for name in ("last", "best")}
        return cls(**(written | parts))


@torch.no_grad()
def evaluate(model: Model, examples: Sequence[Example], step: int, watch: Callable[[MicroBatch], None]) -> Evaluation:
    """Means over labelled tokens, after `step`. `watch` is shown each micro-batch beforehand and may raise."""
    total, hits, count = 0.0, 0, 0
    model.causal.eval()
    try:
        for batch in pack(examples, model.micro_batch_tokens):
            watch(batch)
            losses, right = model.losses(batch, judge=True)
            finite = torch.isfinite(losses)
            if not finite.all():
                owners = set(batch.owners[~finite.cpu()].tolist())
                raise not_finite("validation loss", step, [batch.examples[owner].line for owner in owners])
            total += float(losses.double().sum())
            hits += int(right.sum())
            count += len(losses)
    finally:
        model.causal.train()
    return Evaluation(step, total / count, hits / count)
