"""Which rows a step takes, and how they are laid into micro-batches without padding.

A step's rows depend on dataset and spec alone: an epoch is a permutation drawn from (seed, epoch), cut into steps of
`batch_size` rows. The machine's token budget only decides how many micro-batches they make.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

ALIGNED = 16
"""Tokens of a micro-batch come in multiples of this."""


@dataclass(frozen=True)
class Example:
    """One rendered row: `labelled[i]` says whether token i carries loss. `line` is the row's line in its file."""

    line: int
    ids: Tensor
    labelled: Tensor

    @property
    def num_inputs(self) -> int:
        """Tokens the model must read: none after the one that predicts the last labelled token."""
        return int(self.labelled.nonzero()[-1])

    @property
    def num_labelled(self) -> int:
        """Of the predictable tokens, which the first one is not."""
        return int(self.labelled[1:].sum())


@dataclass(frozen=True)
class MicroBatch:
    """Documents end to end in one row of tokens. `positions` are the places whose prediction is compared with
    `targets`; `owners` holds, for each of them, the index of its example."""

    examples: Sequence[Example]
    input_ids: Tensor
    position_ids: Tensor
    document_lengths: list[int]
    positions: Tensor
    targets: Tensor
    owners: Tensor

    @property
    def num_tokens(self) -> int:
        """Tokens of its rows, as any trainer would count them."""
        return sum(len(example.ids) for example in self.examples)


class Epochs:
    """The order of a run: step (from 1) → rows."""

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


def pack(examples: Sequence[Example], max_tokens: int) -> list[MicroBatch]:
    """Best fit decreasing: the longest row first, each into the fullest micro-batch that still takes it. A row longer
    than `max_tokens` gets one to itself."""
    bins: list[list[Example]] = []
    room: list[int] = []
    for example in sorted(examples, key=lambda example: -example.num_inputs):
        fitting = [index for index, left in enumerate(room) if left >= example.num_inputs]
        if fitting:
            index = min(fitting, key=room.__getitem__)
        else:
            index = len(bins)
            bins.append([])
            room.append(max_tokens)
        bins[index].append(example)
        room[index] -= example.num_inputs
    return [lay_out(held) for held in bins]


def lay_out(examples: Sequence[Example]) -> MicroBatch:
    """Some tokens are added to the last document, after all that is predicted from: a product of a size that was met
    before finds its kernel made (oneDNN makes one for each, in 0.3 ms and half a megabyte)."""
    lengths = [example.num_inputs for example in examples]
    filling = -sum(lengths) % ALIGNED
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    predicted = [example.labelled[1:].nonzero()[:, 0] for example in examples]
    inputs = [example.ids[: example.num_inputs] for example in examples]
    targets = [example.ids[1:][places] for example, places in zip(examples, predicted, strict=True)]
    return MicroBatch(
        examples=examples,
        input_ids=F.pad(torch.cat(inputs).long(), (0, filling))[None],
        position_ids=F.pad(torch.cat([torch.arange(length) for length in lengths]), (0, filling))[None],
        document_lengths=[*lengths[:-1], lengths[-1] + filling],
        positions=torch.cat([start + places for start, places in zip(starts, predicted, strict=True)]),
        targets=torch.cat(targets).long(),
        owners=torch.cat([torch.full_like(places, index) for index, places in enumerate(predicted)]),
    )
