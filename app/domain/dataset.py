"""Datasets: their states, and their inspection line by line. Pure: bytes in, facts out."""

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import islice
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from app.domain.record import (
    KEYS,
    MAX_LINE_BYTES,
    SHAREGPT_ROLES,
    Finding,
    Record,
    RecordFormat,
    brief,
    check_record,
    find_format,
    is_blank,
    parse_line,
)

__all__ = [
    "KEYS", "DatasetState", "Finding", "Message", "Problem", "Record", "RecordFormat", "Report",
    "check_record", "find_format", "inspect", "is_blank", "parse_line", "split_lines", "to_messages",
]  # fmt: skip

MAX_PROBLEMS: Final = 100


class DatasetState(StrEnum):
    """uploading → inspecting → ready | invalid. Only what comes in parts is ever `uploading`: from its completion until
    a light worker has joined the parts. A crash in the middle of that, or of an inspection, leaves the state, and the
    next look of any light worker finishes it; an upload cut off leaves no dataset."""

    uploading = "uploading"
    inspecting = "inspecting"
    ready = "ready"
    invalid = "invalid"


class Problem(BaseModel):
    """One thing wrong: where (line from 1, JSON pointer), a stable code, and what to write instead."""

    model_config = ConfigDict(frozen=True)

    line: int
    pointer: str
    code: str
    message: str


class Report(BaseModel):
    """What an inspection found. `problems` holds the first hundred; `problem_counts` counts all by code, but at
    most a hundred of one row, so that a hostile row costs no more than its bytes."""

    model_config = ConfigDict(frozen=True)

    format: RecordFormat | None
    num_examples: int
    problems: list[Problem]
    problem_counts: dict[str, int]

    @property
    def valid(self) -> bool:
        return not self.problem_counts


class Message(BaseModel):
    """One turn of a conversation. `weight` 0 keeps an assistant's turn as context only."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    weight: Literal[0, 1] = 1
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their newline. Of one that is too long only the beginning is kept, a byte more than is allowed."""
    kept = bytearray()
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            yield bytes(kept + piece)[: MAX_LINE_BYTES + 1]
            kept.clear()
        kept += rest[: max(MAX_LINE_BYTES + 1 - len(kept), 0)]
    if kept:
        yield bytes(kept)


def inspect(lines: Iterable[bytes]) -> Report:
    """Read JSON Lines once, in memory that does not grow with the file, and report what it is and what is wrong.

    Blank lines are skipped but counted, so that line numbers are an editor's.
    """
    inspection = _Inspection()
    number = 0
    for number, line in enumerate(lines, start=1):
        if not is_blank(line):
            inspection.look_at(number, line)
    if inspection.num_examples == 0:
        no_rows = Finding("", "no_rows", "The file has no rows; write one JSON object a line.")
        inspection.note(max(number, 1), no_rows)
    return inspection.report()


class _Inspection:
    def __init__(self) -> None:
        self.format: RecordFormat | None = None
        self.num_examples = 0
        self.problems: list[Problem] = []
        self.counts: Counter[str] = Counter()

    def look_at(self, number: int, line: bytes) -> None:
        self.num_examples += 1
        record = parse_line(line)
        if isinstance(record, Finding):
            self.note(number, record)
            return
        found = find_format(record)
        self.format = self.format or found
        if found is None or found is not self.format:
            self.note(number, _format_finding(record, found, self.format))
            return
        for finding in islice(check_record(record, found), MAX_PROBLEMS):
            self.note(number, finding)

    def note(self, number: int, finding: Finding) -> None:
        self.counts[finding.code] += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(line=number, **finding._asdict()))

    def report(self) -> Report:
        return Report(
            format=self.format,
            num_examples=self.num_examples,
            problems=self.problems,
            problem_counts=dict(self.counts),
        )


def _format_finding(record: Record, found: RecordFormat | None, format: RecordFormat | None) -> Finding:
    if found is None:
        ways = "; ".join(" + ".join(sorted(keys)) for keys in KEYS.values())
        keys = ", ".join(brief(key) for key in list(record)[:8]) or "none"
        return Finding("", "unknown_format", f"The keys ({keys}) fit no format; write one of: {ways}.")
    return Finding("", "mixed_formats", f"The row is {found} but the file began as {format}; keep one format a file.")


def to_messages(record: Record, format: RecordFormat) -> list[Message]:
    """The conversation that a valid record of a conversational format holds."""
    match format:
        case RecordFormat.messages:
            return [Message.model_validate(message) for message in record["messages"]]
        case RecordFormat.sharegpt:
            return [
                Message(role=SHAREGPT_ROLES[turn["from"]], content=turn["value"]) for turn in record["conversations"]
            ]
        case RecordFormat.alpaca:
            return list(_alpaca_messages(record))
        case _:
            raise AssertionError(f"{format} holds no conversation")


def _alpaca_messages(record: Record) -> Iterator[Message]:
    if record.get("system"):
        yield Message(role="system", content=record["system"])
    for asked, answered in record.get("history") or []:
        yield Message(role="user", content=asked)
        yield Message(role="assistant", content=answered)
    question = record["instruction"] + (f"\n\n{record['input']}" if record.get("input") else "")
    yield Message(role="user", content=question)
    yield Message(role="assistant", content=record["output"])
