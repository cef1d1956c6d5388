"""Packs a step's rows into micro-batches without padding. `sampler` chooses the rows.

A row is one document, or two: a preference's answers, each with the prompt, which always share a micro-batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from worker.training.rows.sampler import best_fit
from worker.training.runtime.alignment import ALIGNED


@dataclass(frozen=True)
class Example:
    """Holds one rendered row. `labelled[i]` says whether token i carries loss. `line` is the row's line in its file."""

    line: int
    ids: Tensor
    labelled: Tensor

    @property
    def documents(self) -> tuple["Example", ...]:
        return (self,)

    @property
    def num_inputs(self) -> int:
        """Count the tokens that the model must read: up to the one that predicts the last labelled token."""
        return int(self.labelled.nonzero()[-1])

    @property
    def num_labelled(self) -> int:
        """Count the labelled tokens among the predictable ones, which exclude the first."""
        return int(self.labelled[1:].sum())

    @property
    def num_tokens(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class PreferencePair:
    """Holds one preference. `reference` are its answers' log-probabilities when the job began, NaN until they are
    known."""

    line: int
    chosen: Example
    rejected: Example
    reference: tuple[float, float] = (nan, nan)

    @property
    def documents(self) -> tuple[Example, ...]:
        return self.chosen, self.rejected

    @property
    def num_inputs(self) -> int:
        return self.chosen.num_inputs + self.rejected.num_inputs

    @property
    def num_labelled(self) -> int:
        return self.chosen.num_labelled + self.rejected.num_labelled

    @property
    def num_tokens(self) -> int:
        return self.chosen.num_tokens + self.rejected.num_tokens


AnyRow = Example | PreferencePair


@dataclass(frozen=True)
class MicroBatch:
    """Holds documents end to end in one row of tokens. `positions` are the places whose predictions are compared with
    `targets`; `owners` holds, for each of them, the index of its example. `examples` are the documents of `rows`."""

    rows: Sequence[AnyRow]
    examples: Sequence[Example]
    input_ids: Tensor
    position_ids: Tensor
    document_lengths: list[int]
    positions: Tensor
    targets: Tensor
    owners: Tensor

    @property
    def num_tokens(self) -> int:
        """Count the tokens of its rows, without alignment."""
        return sum(row.num_tokens for row in self.rows)

    def lines_of(self, positions: Tensor) -> list[int]:
        """Return the lines of the rows whose targets a mask selects."""
        return [self.examples[owner].line for owner in set(self.owners[positions.cpu()].tolist())]


def pack(rows: Sequence[AnyRow], max_tokens: int) -> list[MicroBatch]:
    """Pack rows into micro-batches. A row longer than `max_tokens` gets a separate micro-batch."""
    bins = best_fit([row.num_inputs for row in rows], max_tokens)
    return [pack_micro_batch([rows[index] for index in held]) for held in bins]


def pack_micro_batch(rows: Sequence[AnyRow]) -> MicroBatch:
    """Concatenate rows and align their number of tokens. The added tokens belong to the last document, after all that
    is predicted from. Kernels are then reused for equal sizes (oneDNN makes one for each size, in 0.3 ms and half a
    megabyte)."""
    examples = [document for row in rows for document in row.documents]
    lengths = [example.num_inputs for example in examples]
    filling = -sum(lengths) % ALIGNED
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    predicted = [example.labelled[1:].nonzero()[:, 0] for example in examples]
    inputs = [example.ids[: example.num_inputs] for example in examples]
    targets = [example.ids[1:][places] for example, places in zip(examples, predicted, strict=True)]
    return MicroBatch(
        rows=rows,
        examples=examples,
        input_ids=F.pad(torch.cat(inputs).long(), (0, filling))[None],
        position_ids=F.pad(torch.cat([torch.arange(length) for length in lengths]), (0, filling))[None],
        document_lengths=[*lengths[:-1], lengths[-1] + filling],
        positions=torch.cat([start + places for start, places in zip(starts, predicted, strict=True)]),
        targets=torch.cat(targets).long(),
        owners=torch.cat([torch.full_like(places, index) for index, places in enumerate(predicted)]),
    )
