"""Defines datasets: their states, an inspection's report, and the conversation in a record. Pure functions only."""

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
    """Lists the states: uploading → inspecting → ready | invalid. Only datasets from parts are ever `uploading`:
    from the upload's completion until a light worker has assembled the parts. A crash during that or during an
    inspection leaves the state, and the next light worker that polls finishes the work. An interrupted upload
    leaves no dataset."""

    uploading = "uploading"
    inspecting = "inspecting"
    ready = "ready"
    invalid = "invalid"


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Bin(Part):
    """Number of rows between two values, both inclusive."""

    min: int
    max: int
    num_rows: int


class Duplicates(Part):
    """Number of rows with the same texts as an earlier row, ignoring roles and other keys."""

    exact: int = 0
    """Number of rows with exactly the same texts."""
    normalised: int = 0
    """Number of rows with the same texts, ignoring white space and the case of the letters A to Z. Exact ones are
    included."""


class Statistics(Part):
    """Statistics of a file's content. Their size is bounded, whatever the file contains."""

    container: str = "jsonl"
    """Container format: `jsonl`, `json`, `csv`, `parquet` or `text`."""
    compression: str = "none"
    """Compression: `none`, `gzip` or `zstd`."""
    container_reason: str = ""
    """How container and compression were recognized."""
    num_blank_lines: int = 0
    num_empty_rows: int = 0
    """Number of rows without text to learn, which are also counted as bad rows."""
    num_long_rows: int = 0
    """Number of rows whose texts are longer than 131,072 characters."""
    columns: dict[str, int] = {}
    """Number of rows with each key: the first 64 keys found, each truncated to 100 characters."""
    has_more_columns: bool = False
    """Whether the rows have more keys than `columns` lists."""
    duplicates: Duplicates = Duplicates()
    roles: dict[str, int] = {}
    """Number of turns by role, in conversations without an error."""
    turns: list[Bin] = []
    """Number of conversations by number of turns, in the same rows."""
    lengths: list[Bin] = []
    """Number of rows without an error by the length of their texts, in powers of two of characters, which are
    comparable across languages."""


class Report(Part):
    """The result of an inspection."""

    format: RecordFormat | None
    format_reason: str = ""
    """Why the format was chosen."""
    num_examples: int
    """Number of rows that are not blank."""
    num_bad_rows: int = 0
    """Number of rows with an error."""
    problems: list[Problem]
    """The first ten problems, grouped by message: errors before warnings, the most frequent first."""
    problem_counts: dict[str, int]
    """Number of problems by code, at most a hundred per row."""
    statistics: Statistics = Statistics()
    was_read_whole: bool = False
    """Whether the file has rows and was read completely."""

    @property
    def valid(self) -> bool:
        """Say whether the dataset can be trained on. Warnings do not prevent it."""
        return all(severity_of(code) is Severity.warning for code in self.problem_counts)

    @property
    def bad_share(self) -> float | None:
        """Return the share of rows that must be left out to train on the others. Returns None if leaving rows out does
        not help: the file was not read to its end, has rows of several formats, or has no good row."""
        if not self.was_read_whole or "mixed_formats" in self.problem_counts:
            return None
        return self.num_bad_rows / self.num_examples if self.num_bad_rows < self.num_examples else None


def failed_report(finding: Finding, format: RecordFormat | None) -> Report:
    """Create the report of a file that was not read at all."""
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
    """Read a turn of a valid record."""
    answers = turn["role"] == "assistant"
    reasoning = turn.get("reasoning_content") if answers else None
    read = {"content": text_of(turn), "weight": weight_of(turn), "reasoning_content": reasoning or None}
    return Message.model_validate(turn | read)


def split_blocks(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Split chunks into lists of lines without their newline, one list a chunk. A line that is too long is truncated to
    one byte more than allowed."""
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
    """Split chunks into lines, one by one."""
    return chain.from_iterable(split_blocks(chunks))


def tools_of(record: Record) -> list[Any] | None:
    """Return a valid record's tools, which may be a string of JSON."""
    tools = record.get("tools")
    if isinstance(tools, str):
        tools = json.loads(tools) if tools.strip() else None
    return tools or None


def to_messages(record: Record, format: RecordFormat) -> list[Message]:
    """Return the conversation in a valid record of a conversational format."""
    match format:
        case RecordFormat.messages:
            return [read_message(message) for message in record["messages"]]
        case RecordFormat.sharegpt:
            return [_read_sharegpt_turn(turn) for turn in record["conversations"]]
        case RecordFormat.alpaca:
            return list(_read_alpaca(record))
        case _:
            raise AssertionError(f"{format} holds no conversation")


def _read_sharegpt_turn(turn: Record) -> Message:
    role: Any = SHAREGPT_ROLES[turn["from"]]
    weight = weight_of(turn)
    if turn["from"] == "function_call":
        return Message(role=role, tool_calls=calls_in(turn["value"]), weight=weight)
    return Message(role=role, content=turn["value"], weight=weight)


def _read_alpaca(record: Record) -> Iterator[Message]:
    if record.get("system"):
        yield Message(role="system", content=record["system"])
    for asked, answered in record.get("history") or []:
        yield Message(role="user", content=asked)
        yield Message(role="assistant", content=answered)
    yield Message(role="user", content=alpaca_question(record["instruction"], record.get("input")))
    yield Message(role="assistant", content=record["output"])


def alpaca_question(instruction: str, input: str | None) -> str:
    return f"{instruction}\n\n{input}" if input else instruction
