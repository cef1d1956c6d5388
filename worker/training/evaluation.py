"""Loss and token accuracy on rows that are not trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from worker.training.model import Model
from worker.training.packing import Example, pack


@dataclass(frozen=True)
class Evaluation:
    loss: float
    token_accuracy: float


@torch.no_grad()
def evaluate(model: Model, examples: Sequence[Example], watch: Callable[[], None]) -> Evaluation:
    """Means over labelled tokens. `watch` is called before each micro-batch and may raise."""
    total, hits, count = 0.0, 0, 0
    model.causal.eval()
    try:
        for batch in pack(examples, model.micro_batch_tokens):
            watch()
            losses, right = model.losses(batch)
            total += float(losses.double().sum())
            hits += int(right.sum())
            count += len(losses)
    finally:
        model.causal.train()
    return Evaluation(total / count, hits / count)
