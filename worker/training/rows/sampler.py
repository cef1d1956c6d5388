"""Decides which rows a step takes, and which of them share a micro-batch. It does not import torch.

A step's rows depend on dataset and spec alone: an epoch is a permutation drawn from (seed, epoch), cut into steps of
`batch_size` rows. The machine's token budget only decides how many micro-batches they make.
"""

import random
from bisect import bisect_left, insort
from collections.abc import Sequence
from heapq import heappop, heappush

from app.domain.jobs.state import FailureReason
from worker.training.runtime.errors import TrainingFailed

MICRO_BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}
MIN_MEMORY_TOKENS = {"cpu": 512, "cuda": 1024}
"""Holds the tokens of a micro-batch under `memory: min`."""


def token_budget(device: str, memory: str) -> int:
    """Return the maximum tokens of a micro-batch, as long as the device's memory suffices."""
    return (MIN_MEMORY_TOKENS if memory == "min" else MICRO_BATCH_TOKENS)[device]


class BatchSampler:
    """Maps a step (from 1) to its rows."""

    def __init__(self, num_rows: int, batch_size: int, seed: int):
        self._num_rows, self._batch_size, self._seed = num_rows, batch_size, seed
        self.steps_per_epoch = -(-num_rows // batch_size)
        self._epoch, self._order = -1, [0]

    def rows(self, step: int) -> list[int]:
        epoch, index = divmod(step - 1, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, list(range(self._num_rows))
            random.Random(f"{self._seed}:{epoch}").shuffle(self._order)
        return self._order[index * self._batch_size : (index + 1) * self._batch_size]

    def num_steps(self, epochs: float) -> int:
        return max(1, round(epochs * self.steps_per_epoch))


def sides_of(objective: str) -> int:
    """Return the documents of a row. A preference has two answers, which go through the model together."""
    return 2 if objective == "dpo" else 1


def draw_validation_rows(num_rows: int, share: float, seed: int) -> list[int]:
    """Return the rows that the seed draws for validation, in order: at least one, and never all of two or more."""
    count = min(max(1, round(share * num_rows)), num_rows - 1)
    return sorted(random.Random(f"{seed}:validation").sample(range(num_rows), count))


def split_rows(num_rows: int, share: float | None, seed: int) -> tuple[list[int], list[int]]:
    """Return training rows and drawn validation rows. Raises TrainingFailed if there are too few rows for both."""
    if share is None:
        return list(range(num_rows)), []
    if num_rows < 2:
        raise TrainingFailed(
            FailureReason.dataset_invalid, "validation_split needs at least two usable rows, but the dataset has one."
        )
    drawn = draw_validation_rows(num_rows, share, seed)
    return sorted(set(range(num_rows)).difference(drawn)), drawn


def best_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Pack rows by best fit decreasing: the longest first, each into the fullest bin that has room for it, of equal
    bins the oldest. A row longer than `room` gets a separate bin. Returns indices of `lengths` by bin."""
    bins: list[list[int]] = []
    rooms: list[int] = []
    """Holds the bins' free tokens: each number once, in order."""
    with_room: dict[int, list[int]] = {}
    """Maps a number of free tokens to a heap of bins."""
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        at = bisect_left(rooms, lengths[index])
        if at == len(rooms):
            left, bin = room, len(bins)
            bins.append([])
        else:
            left = rooms[at]
            bin = heappop(with_room[left])
            if not with_room[left]:
                del with_room[left], rooms[at]
        bins[bin].append(index)
        left -= lengths[index]
        if left not in with_room:
            with_room[left] = []
            insort(rooms, left)
        heappush(with_room[left], bin)
    return bins
