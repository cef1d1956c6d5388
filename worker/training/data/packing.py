"""How a step's rows are laid into micro-batches without padding. Which they are: `sampler`.

A row is one document, or two: the answers of a preference, each behind the prompt, which are never parted."""

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
    """One rendered row: `labelled[i]` says whether token i carries loss. `line` is the row's line in its file."""

    line: int
    ids: Tensor
    labelled: Tensor

    @property
    def documents(self) -> tuple["Example", ...]:
        return (self,)

    @property
    def num_inputs(self) -> int:
        """Tokens the model must read: none after the one that predicts the last labelled token."""
        return int(self.labelled.nonzero()[-1])

    @property
    def num_labelled(self) -> int:
        """Of the predictable tokens, which the first one is not."""
        return int(self.labelled[1:].sum())

    @property
    def num_tokens(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Pair:
    """One preference. `reference` are its answers' log-probabilities when the job began, NaN until they are known."""

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


AnyRow = Example | Pair


@dataclass(frozen=True)
class MicroBatch:
    """Documents end to end in one row of tokens. `positions` are the places whose prediction is compared with
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
        """Tokens of its rows, as any trainer would count them."""
        return sum(row.num_tokens for row in self.rows)

    def lines_of(self, positions: Tensor) -> list[int]:
        """Rows whose targets are named by a mask, by their lines."""
        return [self.examples[owner].line for owner in set(self.owners[positions.cpu()].tolist())]


def pack(rows: Sequence[AnyRow], max_tokens: int) -> list[MicroBatch]:
    """A row longer than `max_tokens` gets a micro-batch to itself."""
    bins = best_fit([row.num_inputs for row in rows], max_tokens)
    return [pack_micro_batch([rows[index] for index in held]) for held in bins]


def pack_micro_batch(rows: Sequence[AnyRow]) -> MicroBatch:
    """Some tokens are added to the last document, after all that is predicted from: a product of a size that was met
    before finds its kernel made (oneDNN makes one for each, in 0.3 ms and half a megabyte)."""
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
