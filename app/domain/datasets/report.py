"""Datasets: their states, what an inspection reports, and the conversation that a record holds. Pure."""

import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from app.domain.datasets.content import text_of
from app.domain.datasets.formats import KEYS, MAX_LINE_BYTES, Record, RecordFormat, find_format, is_blank, parse_line
from app.domain.datasets.problem import Finding, Problem, Severity, severity_of
from app.domain.datasets.validation import SHAREGPT_ROLES, calls_in, check_record, weight_of

__all__ = [
    "KEYS", "DatasetState", "Finding", "Message", "Problem", "Record", "RecordFormat", "Report",
    "check_record", "find_format", "is_blank", "parse_line", "split_blocks", "split_lines", "to_messages", "tools_of",
]  # fmt: skip

SHOWN_PROBLEMS: Final = 10


class DatasetState(StrEnum):
    """uploading → inspecting → ready | invalid. Only what comes in parts is ever `uploading`: from its completion until
    a light worker has assembled the parts. A crash in the middle of that, or of an inspection, leaves the state, and
    the next look of any light worker finishes it; an upload cut off leaves no dataset."""

    uploading = "uploading"
    inspecting = "inspecting"
    ready = "ready"
    invalid = "invalid"


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Bin(Part):
    """How many rows lie between two counts, both inclusive."""

    min: int
    max: int
    num_rows: int


class Duplicates(Part):
    """Rows whose texts an earlier row has too, roles and other keys apart."""

    exact: int = 0
    """To the letter."""
    normalised: int = 0
    """But for white space and the case of the letters A to Z; those to the letter are among them."""


class Statistics(Part):
    """What a file is like. All of it is bounded, whatever the file holds."""

    container: str = "jsonl"
    """How the file holds its rows: `jsonl`, `json`, `csv`, `parquet` or `text`."""
    compression: str = "none"
    """`none`, `gzip` or `zstd`."""
    container_reason: str = ""
    """How container and compression were recognized."""
    num_blank_lines: int = 0
    num_empty_rows: int = 0
    """Rows with nothing to learn from; they are among the bad ones."""
    num_long_rows: int = 0
    """Rows whose texts are longer than 131,072 characters."""
    columns: dict[str, int] = {}
    """How many rows have each key: the first 64 keys that were met, each cut to 100 characters."""
    has_more_columns: bool = False
    """Whether rows have keys beside those."""
    duplicates: Duplicates = Duplicates()
    roles: dict[str, int] = {}
    """Turns by role, in rows without an error that are conversations."""
    turns: list[Bin] = []
    """Turns a row, of the same rows."""
    lengths: list[Bin] = []
    """Characters of a row's texts by powers of two, of rows without an error: they count alike in every language."""


class Report(Part):
    """What an inspection found."""

    format: RecordFormat | None
    format_reason: str = ""
    """Why it is this format."""
    num_examples: int
    """Rows that are not blank."""
    num_bad_rows: int = 0
    """Rows with an error."""
    problems: list[Problem]
    """The first ten things wrong with it, those that say the same as one; errors before warnings, the most first."""
    problem_counts: dict[str, int]
    """How many things are wrong, by code; at most a hundred of one row are counted."""
    statistics: Statistics = Statistics()
    was_read_whole: bool = False
    """Whether it has rows, and was read to its end."""

    @property
    def valid(self) -> bool:
        """Whether it can be trained on: warnings are no obstacle."""
        return all(severity_of(code) is Severity.warning for code in self.problem_counts)

    @property
    def bad_share(self) -> float | None:
        """The share of its rows that must be left out for the others to be trained on; None where that is no way out:
        it was not read to its end, has rows of several formats, or not one good row."""
        if not self.was_read_whole or "mixed_formats" in self.problem_counts:
            return None
        return self.num_bad_rows / self.num_examples if self.num_bad_rows < self.num_examples else None


def failed_report(finding: Finding, format: RecordFormat | None) -> Report:
    """Of a file that was not read at all."""
    problem = Problem.of(1, finding)
    return Report(format=format, num_examples=0, problems=[problem], problem_counts={problem.code: 1})


class Message(BaseModel):
    """One turn of a conversation. `weight` 0 keeps an assistant's turn as context only."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    weight: Literal[0, 1] = 1
    reasoning_content: str | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


def read_message(turn: Record) -> Message:
    """A turn of a valid record."""
    answers = turn["role"] == "assistant"
    reasoning = turn.get("reasoning_content") if answers else None
    read = {"content": text_of(turn), "weight": weight_of(turn), "reasoning_content": reasoning or None}
    return Message.model_validate(turn | read)


def split_blocks(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Lines without their newline, those of a chunk together. Of one that is too long only the beginning is kept, a
    byte more than is allowed."""
    kept = bytearray()
    for chunk in chunks:
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines:
            if kept:
                lines[0] = bytes(kept) + lines[0]
                kept.clear()
            if max(map(len, lines)) > MAX_LINE_BYTES:
                lines = [line[: MAX_LINE_BYTES + 1] for line in lines]
            yield lines
        kept += rest[: max(MAX_LINE_BYTES + 1 - len(kept), 0)]
    if kept:
        yield [bytes(kept)]


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same, one by one."""
    return chain.from_iterable(split_blocks(chunks))


def tools_of(record: Record) -> list[Any] | None:
    """The tools that a valid record offers, which may be written as a string of JSON."""
    tools = record.get("tools")
    if isinstance(tools, str):
        tools = json.loads(tools) if tools.strip() else None
    return tools or None


def to_messages(record: Record, format: RecordFormat) -> list[Message]:
    """The conversation that a valid record of a conversational format holds."""
    match format:
        case RecordFormat.messages:
            return [read_message(message) for message in record["messages"]]
        case RecordFormat.sharegpt:
            return [_said(turn) for turn in record["conversations"]]
        case RecordFormat.alpaca:
            return list(_alpaca_messages(record))
        case _:
            raise AssertionError(f"{format} holds no conversation")


def _said(turn: Record) -> Message:
    role: Any = SHAREGPT_ROLES[turn["from"]]
    weight = weight_of(turn)
    if turn["from"] == "function_call":
        return Message(role=role, tool_calls=calls_in(turn["value"]), weight=weight)
    return Message(role=role, content=turn["value"], weight=weight)


def _alpaca_messages(record: Record) -> Iterator[Message]:
    if record.get("system"):
        yield Message(role="system", content=record["system"])
    for asked, answered in record.get("history") or []:
        yield Message(role="user", content=asked)
        yield Message(role="assistant", content=answered)
    yield Message(role="user", content=alpaca_question(record["instruction"], record.get("input")))
    yield Message(role="assistant", content=record["output"])


def alpaca_question(instruction: str, input: str | None) -> str:
    return f"{instruction}\n\n{input}" if input else instruction
