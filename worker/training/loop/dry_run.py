"""Runs the work once before the first step, so that problems appear in the first minute and not after hours."""

import torch

from worker.training.data.dataset import Examples
from worker.training.data.packing import AnyRow, MicroBatch, pack_micro_batch
from worker.training.model.loading import Model


def run_dry_run(
    model: Model,
    rows: Examples,
    validation: Examples,
    batch_size: int,
) -> MicroBatch:
    """Run forward and backward of the largest micro-batch that the rows can make, and one evaluation. No step is taken,
    and the random state is restored. What fails here would have failed later."""
    batch = find_largest_micro_batch(rows, batch_size, model.micro_batch_tokens)
    with torch.random.fork_rng(devices=[model.plan.device] if model.plan.device == "cuda" else []):
        losses, _ = model.losses(batch)
        losses.mean().backward()  # type: ignore[no-untyped-call]
        del losses
        for parameter in model.trainable.values():
            parameter.grad = None
        if validation:
            _evaluate(model, find_largest_micro_batch(validation, len(validation), model.micro_batch_tokens))
    return batch


@torch.no_grad()
def _evaluate(model: Model, batch: MicroBatch) -> None:
    model.causal.eval()
    try:
        model.losses(batch, with_hits=True)
    finally:
        model.causal.train()


def find_largest_micro_batch(rows: Examples, batch_size: int, max_tokens: int) -> MicroBatch:
    """Return the longest row, with as many of the next longest rows as fit."""
    held: list[AnyRow] = []
    room = max_tokens
    for row in rows.longest_first():
        if len(held) == batch_size:
            break
        if not held or row.num_inputs <= room:
            held.append(row)
            room -= row.num_inputs
    return pack_micro_batch(held)
