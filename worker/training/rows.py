"""The rows of a training: mapped from the tokenizer's files, split, and what happened to them told as events."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import torch
from safetensors.torch import load_file
from torch import Tensor

from app.domain.event import DatasetPrepared, Warned
from worker.training.channel import Channel
from worker.training.packing import Example
from worker.training.protocol import Happened, Request, Tokenized
from worker.training.steps import divide


class Examples(Sequence[Example]):
    """Rows of `tokenizing.pack_rows`, made as they are asked for: views on the mapped file, which takes memory only for
    what is read."""

    def __init__(self, tensors: dict[str, Tensor], chosen: Sequence[int]):
        self._tensors, self._chosen = tensors, chosen

    @classmethod
    def of(cls, path: Path) -> "Examples":
        tensors = load_file(path)
        return cls(tensors, range(len(tensors["lines"])))

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "Examples": ...
    def __getitem__(self, index: int | slice) -> "Example | Examples":
        if isinstance(index, slice):
            return Examples(self._tensors, self._chosen[index])
        row, tensors = self._chosen[index], self._tensors
        start, end = tensors["starts"][row : row + 2].tolist()
        return Example(int(tensors["lines"][row]), tensors["ids"][start:end], tensors["labelled"][start:end])

    def choose(self, indices: Sequence[int]) -> "Examples":
        return Examples(self._tensors, [self._chosen[index] for index in indices])

    def longest_first(self) -> "Examples":
        return self.choose(self._column("num_inputs").argsort(descending=True, stable=True).tolist())

    @property
    def longest(self) -> int:
        """Inputs of the longest row."""
        return int(self._column("num_inputs").max())

    @property
    def num_tokens(self) -> int:
        return int((self._column("starts", shift=1) - self._column("starts")).sum())

    @property
    def num_labelled(self) -> int:
        return int(self.labelled_counts.sum())

    @property
    def lines(self) -> Tensor:
        return self._column("lines")

    @property
    def labelled_counts(self) -> Tensor:
        """Labelled tokens of each row."""
        return self._column("num_labelled")

    def _column(self, name: str, shift: int = 0) -> Tensor:
        return self._tensors[name][torch.tensor(list(self._chosen)) + shift]


@dataclass
class Rows:
    training: Examples
    validation: Examples
    chat_template: str | None
    turn_ends: frozenset[int]
    """Special tokens that end an answer."""
    eos: int
    skipped_path: Path | None
    """Lists the rows that were left out, if any were."""


def prepare_rows(request: Request, tokenized: Tokenized, channel: Channel) -> Rows:
    training = request.spec.training
    assert not isinstance(training.max_seq_len, str)
    kept, held_back = split(Examples.of(tokenized.training_path), request.spec.validation_split, training.seed)
    if tokenized.validation_path:
        held_back = Examples.of(tokenized.validation_path)
    rows = Rows(
        training=kept,
        validation=held_back,
        chat_template=tokenized.chat_template,
        turn_ends=frozenset(tokenized.turn_ends),
        eos=tokenized.eos,
        skipped_path=tokenized.skipped_path,
    )
    _tell_rows(rows, tokenized, channel)
    _warn_of_rows(tokenized, training.max_seq_len, channel)
    return rows


def split(examples: Examples, share: float | None, seed: int) -> tuple[Examples, Examples]:
    """Training rows and the validation rows that the seed draws from them: at least one, and never all."""
    if share is None:
        return examples, examples[:0]
    kept, drawn = divide(len(examples), share, seed)
    return examples.choose(kept), examples.choose(drawn)


def _tell_rows(rows: Rows, tokenized: Tokenized, channel: Channel) -> None:
    prepared = DatasetPrepared(
        num_rows=len(rows.training),
        num_validation_rows=len(rows.validation),
        num_dropped_rows=tokenized.num_dropped,
        num_truncated_rows=tokenized.num_truncated,
        num_tokens=rows.training.num_tokens,
        num_labelled_tokens=rows.training.num_labelled,
        chat_template=rows.chat_template,
    )
    channel.say(Happened(event=prepared))
    for skipped in tokenized.skipped:
        channel.say(Happened(event=skipped))


def _warn_of_rows(tokenized: Tokenized, max_seq_len: int, channel: Channel) -> None:
    facts = {
        "rows_dropped": (tokenized.num_dropped, "rows have no token to learn from and are left out"),
        "rows_truncated": (tokenized.num_truncated, f"rows are longer than {max_seq_len:,} tokens and are cut"),
        "unstable_template": (
            tokenized.num_unstable,
            "rows render otherwise turn by turn than as a whole; only their last answer is learned, if any",
        ),
        "no_end_of_turn": (
            tokenized.num_endless,
            "answers end without a special token, so that the model does not learn to stop after them",
        ),
        "special_tokens_in_content": (
            tokenized.num_typed_specials,
            "special tokens are written in the rows' content; they are read as plain text",
        ),
    }
    for code, (count, text) in facts.items():
        if count:
            warn(channel, code, f"{count:,} {text}.")


def warn(channel: Channel, code: str, text: str) -> None:
    channel.say(Happened(event=Warned(code=code, text=text)))
