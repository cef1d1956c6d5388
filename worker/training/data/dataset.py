"""Provides a training's rows: maps the tokenizer's files, splits off validation rows, and reports events about them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import torch
from safetensors.torch import load_file
from torch import Tensor

from app.domain.events.job_events import DatasetPrepared, WarningIssued
from worker.training.data.packing import AnyRow, Example, PreferencePair
from worker.training.rows.sampler import sides_of, split_rows
from worker.training.runtime.channel import Channel
from worker.training.runtime.messages import EventMessage, Tokenized, TrainingRequest


class Examples(Sequence[AnyRow]):
    """Holds rows of `tokenize.pack_rows`, created on access as views on the mapped file, which takes memory only for
    what is read. A row is `sides` documents: one Example, or a PreferencePair of two."""

    def __init__(
        self, tensors: dict[str, Tensor], chosen: Sequence[int], sides: int = 1, references: Tensor | None = None
    ):
        """Select rows. `references` belong to the chosen rows."""
        self._tensors, self._chosen, self.sides = tensors, chosen, sides
        empty = torch.full((len(chosen) if sides == 2 else 0, 2), math.nan, dtype=torch.float64)
        self.references = empty if references is None else references
        """Holds, for pairs, the log-probabilities of both answers when the job began. NaN until they are computed."""

    @classmethod
    def of(cls, path: Path, sides: int = 1) -> "Examples":
        tensors = load_file(path)
        return cls(tensors, range(len(tensors["lines"]) // sides), sides)

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> AnyRow: ...
    @overload
    def __getitem__(self, index: slice) -> "Examples": ...
    def __getitem__(self, index: int | slice) -> "AnyRow | Examples":
        if isinstance(index, slice):
            return self.choose(range(len(self))[index])
        row = self._chosen[index]
        if self.sides == 1:
            return self._document(row)
        chosen, rejected = self._document(2 * row), self._document(2 * row + 1)
        first, second = self.references[index].tolist()
        return PreferencePair(chosen.line, chosen, rejected, (first, second))

    def _document(self, place: int) -> Example:
        tensors = self._tensors
        start, end = tensors["starts"][place : place + 2].tolist()
        return Example(int(tensors["lines"][place]), tensors["ids"][start:end], tensors["labelled"][start:end])

    def choose(self, indices: Sequence[int]) -> "Examples":
        references = self.references[list(indices)] if self.sides == 2 else None
        return Examples(self._tensors, [self._chosen[index] for index in indices], self.sides, references)

    def documents(self) -> Iterator[Example]:
        """Yield what the model reads: the rows themselves, or the two answers of each."""
        for row in self:
            yield from row.documents

    def longest_first(self) -> "Examples":
        inputs = self._column(self._tensors["num_inputs"])
        return self.choose(inputs.argsort(descending=True, stable=True).tolist())

    @property
    def longest(self) -> int:
        """Return the number of inputs of the longest row."""
        return int(self._column(self._tensors["num_inputs"]).max())

    @property
    def num_tokens(self) -> int:
        return int(self._column(self._tensors["starts"].diff()).sum())

    @property
    def num_labelled(self) -> int:
        return int(self.labelled_counts.sum())

    @property
    def lines(self) -> Tensor:
        return self._tensors["lines"][:: self.sides][torch.tensor(list(self._chosen))]

    @property
    def labelled_counts(self) -> Tensor:
        """Return the labelled tokens of each row."""
        return self._column(self._tensors["num_labelled"])

    def _column(self, of_documents: Tensor) -> Tensor:
        """Sum a column over each row's documents."""
        return of_documents.view(-1, self.sides).sum(1)[torch.tensor(list(self._chosen))]


@dataclass
class Rows:
    training: Examples
    validation: Examples
    chat_template: str | None
    turn_ends: frozenset[int]
    """Holds the special tokens that end an answer."""
    eos: int
    skipped_path: Path | None
    """Lists the rows that were left out, if any."""

    @property
    def references(self) -> dict[str, Tensor]:
        """Return `Examples.references` by part. Empty where rows are no pairs."""
        parts = {"training": self.training.references, "validation": self.validation.references}
        return {name: tensor for name, tensor in parts.items() if self.training.sides == 2}


def prepare_rows(request: TrainingRequest, tokenized: Tokenized, channel: Channel) -> Rows:
    training = request.spec.training
    assert not isinstance(training.max_seq_len, str)
    sides = sides_of(request.spec.objective)
    kept, held_back = split_examples(
        Examples.of(tokenized.training_path, sides), request.spec.validation_split, training.seed
    )
    if tokenized.validation_path:
        held_back = Examples.of(tokenized.validation_path, sides)
    rows = Rows(
        training=kept,
        validation=held_back,
        chat_template=tokenized.chat_template,
        turn_ends=frozenset(tokenized.turn_ends),
        eos=tokenized.eos,
        skipped_path=tokenized.skipped_path,
    )
    _report_rows(rows, tokenized, channel)
    _warn_of_rows(tokenized, training.max_seq_len, channel)
    return rows


def split_examples(examples: Examples, share: float | None, seed: int) -> tuple[Examples, Examples]:
    """Split off the validation rows that the seed draws: at least one, and never all."""
    if share is None:
        return examples, examples[:0]
    kept, drawn = split_rows(len(examples), share, seed)
    return examples.choose(kept), examples.choose(drawn)


def _report_rows(rows: Rows, tokenized: Tokenized, channel: Channel) -> None:
    prepared = DatasetPrepared(
        num_rows=len(rows.training),
        num_validation_rows=len(rows.validation),
        num_dropped_rows=tokenized.num_dropped,
        num_truncated_rows=tokenized.num_truncated,
        num_tokens=rows.training.num_tokens,
        num_labelled_tokens=rows.training.num_labelled,
        chat_template=rows.chat_template,
    )
    channel.send(EventMessage(event=prepared))
    for skipped in tokenized.skipped:
        channel.send(EventMessage(event=skipped))


def _warn_of_rows(tokenized: Tokenized, max_seq_len: int, channel: Channel) -> None:
    facts = {
        "rows_dropped": (tokenized.num_dropped, "rows have no labelled token and were dropped"),
        "rows_truncated": (tokenized.num_truncated, f"rows are longer than {max_seq_len:,} tokens and were truncated"),
        "unstable_template": (
            tokenized.num_unstable,
            "rows render differently as a whole than turn by turn; answers missing from the whole are not trained on",
        ),
        "no_end_of_turn": (
            tokenized.num_endless,
            "answers end without a special token; the model does not learn to stop after them",
        ),
        "reasoning_not_rendered": (
            tokenized.num_unrendered_reasoning,
            f"of {tokenized.num_reasoning:,} answers have reasoning that the chat template does not render",
        ),
        "name_not_rendered": (
            tokenized.num_unrendered_names,
            "turns have a name that the chat template does not render",
        ),
        "special_tokens_in_content": (
            tokenized.num_literal_special_tokens,
            "special tokens appear in the rows' content and are treated as plain text",
        ),
    }
    for code, (count, text) in facts.items():
        if count:
            warn(channel, code, f"{count:,} {text}.")


def warn(channel: Channel, code: str, text: str) -> None:
    channel.send(EventMessage(event=WarningIssued(code=code, detail=text)))
