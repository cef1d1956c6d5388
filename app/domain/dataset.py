"""Datasets: the record formats, found by looking, and their validation line by line. Pure: bytes in, facts out."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict


class DatasetState(StrEnum):
    """uploading → inspecting → ready | invalid. A crash in the middle of an inspection leaves `inspecting`, which
    the next look of any light worker finishes; an upload cut off leaves no dataset."""

    uploading = "uploading"
    inspecting = "inspecting"
    ready = "ready"
    invalid = "invalid"


class RecordFormat(StrEnum):
    messages = "messages"
    prompt_completion = "prompt_completion"
    alpaca = "alpaca"
    sharegpt = "sharegpt"
    text = "text"


KEYS: Final[dict[RecordFormat, frozenset[str]]] = {
    RecordFormat.messages: frozenset({"messages"}),
    RecordFormat.prompt_completion: frozenset({"prompt", "completion"}),
    RecordFormat.alpaca: frozenset({"instruction", "output"}),
    RecordFormat.sharegpt: frozenset({"conversations"}),
    RecordFormat.text: frozenset({"text"}),
}
"""Keys that a record must have to be of a format; the first format that fits is the one."""

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})
SHAREGPT_ROLES: Final = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
MAX_LINE_BYTES: Final = 16 * 2**20
MAX_PROBLEMS: Final = 100

Record = dict[str, Any]


class Problem(BaseModel):
    """One thing wrong: where (line from 1, JSON pointer), a stable code, and what to write instead."""

    model_config = ConfigDict(frozen=True)

    line: int
    pointer: str
    code: str
    message: str


class Report(BaseModel):
    """What an inspection found. `problems` holds the first hundred; `problem_counts` is exact, by code."""

    model_config = ConfigDict(frozen=True)

    format: RecordFormat | None
    num_examples: int
    problems: list[Problem]
    problem_counts: dict[str, int]

    @property
    def valid(self) -> bool:
        return not self.problem_counts


class Finding(NamedTuple):
    pointer: str
    code: str
    message: str


class Message(BaseModel):
    """One turn of a conversation. `weight` 0 keeps an assistant's turn as context only."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    weight: Literal[0, 1] = 1
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


def find_format(record: Record) -> RecordFormat | None:
    return next((format for format, keys in KEYS.items() if keys <= record.keys()), None)


def parse_line(line: bytes) -> Record | Finding:
    """A JSON object, or what keeps the line from being one."""
    if len(line) > MAX_LINE_BYTES:
        return Finding("", "line_too_long", f"The line has {len(line):,} bytes; at most {MAX_LINE_BYTES:,} are read.")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return Finding("", "not_utf8", f"Byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8.")
    try:
        record = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return Finding("", "not_json", f"The line is not JSON ({error}); write one JSON object a line.")
    if not isinstance(record, dict):
        return Finding("", "not_an_object", f"The line holds a JSON {_kind(record)}; write one JSON object a line.")
    return record


def check_record(record: Record, format: RecordFormat) -> Iterator[Finding]:
    """Everything wrong with a record of this format."""
    match format:
        case RecordFormat.messages:
            yield from _check_messages(record["messages"])
        case RecordFormat.sharegpt:
            yield from _check_sharegpt(record["conversations"])
        case RecordFormat.prompt_completion:
            yield from _check_texts(record, required=("prompt", "completion"), filled="completion")
        case RecordFormat.alpaca:
            yield from _check_texts(
                record, required=("instruction", "output"), optional=("input", "system"), filled="output"
            )
            yield from _check_history(record.get("history"))
        case RecordFormat.text:
            yield from _check_texts(record, required=("text",), filled="text")


def inspect(lines: Iterable[bytes]) -> Report:
    """Read JSON Lines once, in memory that does not grow with the file, and report what it is and what is wrong.

    Blank lines are skipped but counted, so that line numbers are an editor's.
    """
    format: RecordFormat | None = None
    num_examples = 0
    problems: list[Problem] = []
    counts: Counter[str] = Counter()

    def note(line: int, finding: Finding) -> None:
        counts[finding.code] += 1
        if len(problems) < MAX_PROBLEMS:
            problems.append(Problem(line=line, **finding._asdict()))

    number = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        num_examples += 1
        record = parse_line(line)
        if isinstance(record, Finding):
            note(number, record)
            continue
        found = find_format(record)
        format = format or found
        if found is None or found is not format:
            note(number, _format_finding(record, found, format))
            continue
        for finding in check_record(record, found):
            note(number, finding)
    if num_examples == 0:
        note(max(number, 1), Finding("", "no_rows", "The file has no rows; write one JSON object a line."))
    return Report(format=format, num_examples=num_examples, problems=problems, problem_counts=dict(counts))


def to_messages(record: Record, format: RecordFormat) -> list[Message]:
    """The conversation that a valid record of a conversational format holds."""
    match format:
        case RecordFormat.messages:
            return [Message.model_validate(message) for message in record["messages"]]
        case RecordFormat.sharegpt:
            return [
                Message(role=SHAREGPT_ROLES[turn["from"]], content=turn["value"])  # type: ignore[arg-type]
                for turn in record["conversations"]
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


def _format_finding(record: Record, found: RecordFormat | None, format: RecordFormat | None) -> Finding:
    if found is None:
        ways = "; ".join(" + ".join(sorted(keys)) for keys in KEYS.values())
        return Finding("", "unknown_format", f"Keys {sorted(record)[:8]} fit no format; write one of: {ways}.")
    return Finding("", "mixed_formats", f"The row is {found} but the file began as {format}; keep one format a file.")


def _check_texts(
    record: Record, required: tuple[str, ...], filled: str, optional: tuple[str, ...] = ()
) -> Iterator[Finding]:
    for key in (*required, *(key for key in optional if record.get(key) is not None)):
        value = record[key]
        if not isinstance(value, str):
            yield Finding(f"/{key}", "wrong_type", f"{key} is a JSON {_kind(value)}; write a string.")
        elif key == filled and not value.strip():
            yield Finding(f"/{key}", "nothing_to_learn", f"{key} is empty; write the text to learn.")


def _check_history(history: object) -> Iterator[Finding]:
    pairs = history or []
    well_formed = isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs
    )
    if not well_formed:
        yield Finding("/history", "wrong_type", "history is not a list of [question, answer] pairs of strings.")


def _check_messages(messages: object) -> Iterator[Finding]:
    if not isinstance(messages, list) or not messages:
        yield Finding("/messages", "wrong_type", "messages is not a filled list; write a list of turns.")
        return
    learnable = False
    for index, message in enumerate(messages):
        at = f"/messages/{index}"
        if not isinstance(message, dict):
            yield Finding(at, "wrong_type", f"The turn is a JSON {_kind(message)}; write an object.")
            continue
        yield from _check_message(message, at)
        content = message.get("content") or message.get("tool_calls")
        learnable |= message.get("role") == "assistant" and bool(content) and message.get("weight", 1) == 1
    if not learnable:
        yield Finding("/messages", "nothing_to_learn", "No assistant turn with content and weight 1; add one.")


def _check_message(message: Record, at: str) -> Iterator[Finding]:
    if message.get("role") not in ROLES:
        yield Finding(f"{at}/role", "unknown_role", f"role is {message.get('role')!r:.40}; write one of {sorted(ROLES)}.")
    if type(message.get("weight", 1)) is not int or message.get("weight", 1) not in (0, 1):
        yield Finding(f"{at}/weight", "bad_weight", f"weight is {message['weight']!r:.40}; write 0 or 1.")
    content, calls = message.get("content"), message.get("tool_calls")
    if not isinstance(content, str) and not (content is None and calls):
        yield Finding(f"{at}/content", "wrong_type", f"content is a JSON {_kind(content)}; write a string.")
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        yield Finding(f"{at}/tool_calls", "wrong_type", "tool_calls is not a list of objects.")


def _check_sharegpt(turns: object) -> Iterator[Finding]:
    if not isinstance(turns, list) or not turns:
        yield Finding("/conversations", "wrong_type", "conversations is not a filled list; write a list of turns.")
        return
    learnable = False
    for index, turn in enumerate(turns):
        at = f"/conversations/{index}"
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            yield Finding(at, "wrong_type", 'The turn is not an object with "from" and a string "value".')
            continue
        role = turn.get("from")
        if not isinstance(role, str) or role not in SHAREGPT_ROLES:
            yield Finding(f"{at}/from", "unknown_role", f"from is {role!r:.40}; write one of {sorted(SHAREGPT_ROLES)}.")
            continue
        learnable |= SHAREGPT_ROLES[role] == "assistant" and bool(turn["value"].strip())
    if not learnable:
        yield Finding("/conversations", "nothing_to_learn", "No gpt turn with text; add one.")


def _kind(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")
