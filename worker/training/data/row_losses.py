"""Records each training row's loss when it was last trained on, as its step computed it. No extra pass is needed."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worker.training.data.dataset import Examples
from worker.training.data.packing import MicroBatch
from worker.training.rows.sampler import BatchSampler

NAME = "row_losses.csv"
COLUMNS = "line,num_labelled_tokens,loss,step"
UNKNOWN = -1.0
"""Marks an unknown loss: no loss is below 0."""


def make_unknown_losses(num_rows: int) -> Tensor:
    return torch.full((num_rows,), UNKNOWN)


def mean_losses(losses: Tensor, batch: MicroBatch) -> dict[int, float]:
    """Return the mean loss over each row's labelled tokens, by line. `losses` are those of the batch's targets, on the
    CPU."""
    sums = torch.zeros(len(batch.examples), dtype=torch.float64).index_add_(0, batch.owners, losses)
    counts = torch.bincount(batch.owners, minlength=len(batch.examples))
    return {example.line: mean for example, mean in zip(batch.examples, (sums / counts).tolist(), strict=True)}


def write_row_losses(path: Path, rows: Examples, losses: Tensor, epochs: BatchSampler, last_step: int) -> None:
    """Write the rows of the last epoch's number of steps: the highest loss first, equal losses by line. A row whose
    loss is unknown, because the training was resumed with other batches, is omitted."""
    steps = np.zeros(len(rows), np.int64)
    for step in range(max(1, last_step - epochs.steps_per_epoch + 1), last_step + 1):
        steps[epochs.rows(step)] = step
    means = losses.numpy()
    known = np.flatnonzero((steps > 0) & (means != UNKNOWN))
    lines, num_labelled = rows.lines.numpy(), rows.labelled_counts.numpy()
    order = known[np.lexsort((lines[known], -means[known]))]
    with path.open("w", encoding="ascii") as file:
        file.write(COLUMNS + "\n")
        for row in order.tolist():
            file.write(f"{lines[row]},{num_labelled[row]},{means[row]:.6g},{steps[row]}\n")
