"""Splits elementwise work into a few rows at a time, so that each operation finds its input in the CPU's cache."""

from collections.abc import Iterator

import torch
from torch import Tensor

PIECE = 2**19
"""Limits the values of the widest tensor at once: 2 MiB in fp32, which two cores share. Half and twice as many are
slower."""


def in_pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield views of the same rows (of the first dimension) of each tensor, in turn; on a GPU, all rows at once."""
    rows = len(tensors[0])
    widest = max(tensor[:1].numel() for tensor in tensors)
    size = max(1, PIECE // widest) if tensors[0].device.type == "cpu" else rows
    return zip(*(torch.split(tensor, size) for tensor in tensors), strict=True)
