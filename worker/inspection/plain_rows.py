"""Decodes plain rows in batches: the format's keys, strings, and nothing unusual.

A row that does not fit these types is checked individually, so the types may be strict and need not explain an
error."""

from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from app.domain.datasets.conversation import alpaca_question
from app.domain.datasets.formats import RecordFormat

PART: Final = "\x1f"
"""Separates a row's texts when they are joined."""
Shape = tuple[str, ...]
"""Names the speaker of each turn, in the format's terms; () for formats without turns."""


class Read(NamedTuple):
    """Holds a batch of rows in parallel lists."""

    texts: list[str]
    """Holds the texts of all rows, in order."""
    num_texts: list[int]
    """Counts the texts of each row."""
    num_keys: list[int]
    """Counts the keys in all of a row's objects, without learned columns."""
    shapes: list[Shape]
    odd: set[int]
    """Lists the indexes of rows that must be checked individually."""


class Plain(NamedTuple):
    fields: list[tuple[Any, ...]]
    """Lists the fields of the rows' struct for `msgspec.defstruct`."""
    read: Callable[[Sequence[Any]], Read]


class Turn(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


class SharegptTurn(msgspec.Struct, gc=False, forbid_unknown_fields=True, rename={"by": "from"}):
    by: Literal["system", "human", "user", "gpt", "assistant", "observation", "tool"]
    value: str


def _read_turns(turns: str, by: str, text: str) -> Callable[[Sequence[Any]], Read]:
    turns_of, role_of, text_of = attrgetter(turns), attrgetter(by), attrgetter(text)

    def read(rows: Sequence[Any]) -> Read:
        conversations = list(map(turns_of, rows))
        lengths = list(map(len, conversations))
        turns = list(chain.from_iterable(conversations))
        shapes = _divided(tuple(map(role_of, turns)), lengths)
        return Read(list(map(text_of, turns)), lengths, [1 + 2 * length for length in lengths], shapes, set())

    return read


def _read_strings(*names: str, differing: bool = False) -> Callable[[Sequence[Any]], Read]:
    values_of = attrgetter(*names)
    num = len(names)

    def read(rows: Sequence[Any]) -> Read:
        values: list[Any] = list(map(values_of, rows))
        texts: list[str] = values if num == 1 else list(chain.from_iterable(values))
        odd = {index for index, each in enumerate(values) if each[-1] == each[-2]} if differing else set()
        return Read(texts, [num] * len(rows), [num] * len(rows), [()] * len(rows), odd)

    return read


def _read_alpaca(rows: Sequence[Any]) -> Read:
    values = list(map(attrgetter("instruction", "input", "output"), rows))
    texts = [text for asked, more, answered in values for text in (alpaca_question(asked, more or None), answered)]
    num_keys = [2 + (more is not UNSET) for _, more, _ in values]
    return Read(texts, [2] * len(rows), num_keys, [("user", "assistant")] * len(rows), set())


def _divided(roles: tuple[str, ...], lengths: list[int]) -> list[Shape]:
    """Split the roles by conversation; faster if all conversations have the same length."""
    length = lengths[0]
    if length and lengths.count(length) == len(lengths):
        return list(zip(*[iter(roles)] * length, strict=True))
    return list(map(roles.__getitem__, map(slice, accumulate(lengths[:-1], initial=0), accumulate(lengths))))


PLAIN: Final[dict[RecordFormat, Plain]] = {
    RecordFormat.messages: Plain([("messages", list[Turn])], _read_turns("messages", "role", "content")),
    RecordFormat.sharegpt: Plain([("conversations", list[SharegptTurn])], _read_turns("conversations", "by", "value")),
    RecordFormat.prompt_completion: Plain(
        [("prompt", str), ("completion", str)], _read_strings("prompt", "completion")
    ),
    RecordFormat.alpaca: Plain(
        [("instruction", str), ("output", str), ("input", str | UnsetType, UNSET)], _read_alpaca
    ),
    RecordFormat.text: Plain([("text", str)], _read_strings("text")),
    RecordFormat.preference: Plain(
        [("prompt", str), ("chosen", str), ("rejected", str)],
        _read_strings("prompt", "chosen", "rejected", differing=True),
    ),
}
