"""Checks one row individually: finds all its problems, and extracts the texts that identify duplicates."""

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, Final, NamedTuple

import msgspec

from app.domain.datasets.columns import advise, meant_columns
from app.domain.datasets.content import text_of
from app.domain.datasets.conversation import alpaca_question
from app.domain.datasets.formats import (
    KEYS,
    MAX_DEPTH,
    MAX_LINE_BYTES,
    Record,
    RecordFormat,
    find_format,
    fits,
    read_line,
)
from app.domain.datasets.problem import Finding, brief, pointer_to
from app.domain.datasets.validation import check_record, sides_of
from worker.inspection.errors import Flawed
from worker.inspection.plain_rows import PART, Shape

MAX_FINDINGS: Final = 100
"""Limits the findings per row, so that a hostile row uses bounded time and memory."""
LONG_CHARS: Final = 2**17
"""Corresponds to about 32,000 tokens of English."""
STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"[ \t\r]*+(:?)', re.DOTALL)
"""Matches a JSON string, and the colon after it if it is a key."""
CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_decode = msgspec.json.Decoder().decode


class RowCheck(NamedTuple):
    record: Record | None
    """Is None if the line holds no record."""
    format: RecordFormat | None
    """Is the row's detected format, which may differ from the file's."""
    findings: list[Finding]
    texts: str | None
    """Holds the texts joined by PART; None unless the row can be trained on."""
    shape: Shape

    @property
    def is_bad(self) -> bool:
        return self.texts is None


def check_row(line: bytes, format: RecordFormat | None, named: bool) -> RowCheck:
    """Check one row. `format` is the file's format, if known already; `named` says whether the user named it."""
    if isinstance(line, Flawed):
        return RowCheck(None, None, [line.finding], None, ())
    record, findings = _read(line)
    if record is None:
        return RowCheck(None, None, findings, None, ())
    found = find_format(record)
    findings = _bounded(chain(findings, _check_format(record, found, format or found, named)))
    format = format or found
    if format is None or any(finding.is_error for finding in findings):
        return RowCheck(record, found, findings, None, ())
    texts = list(_texts(record, format))
    findings += islice(_check_texts(record, texts), MAX_FINDINGS - len(findings))
    return RowCheck(record, found, findings, PART.join(texts), _shape(record, format))


def _bounded(findings: Iterator[Finding]) -> list[Finding]:
    """Return the first findings, and include an error if there is any."""
    kept = list(islice(findings, MAX_FINDINGS))
    if not any(finding.is_error for finding in kept):
        error = next((finding for finding in findings if finding.is_error), None)
        kept[-1:] = [error] if error else kept[-1:]
    return kept


def count_keys(line: bytes) -> int:
    """Return the number of keys in the line's objects, counting repeated keys each time. The line is valid JSON."""
    return STRING.findall(line).count(b":")


def _read(line: bytes) -> tuple[Record | None, list[Finding]]:
    """Return the result of `read_line`, with a faster path for rows without a problem."""
    if len(line) <= MAX_LINE_BYTES:
        try:
            record = _decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return read_line(line)
        if isinstance(record, dict) and _is_sound(record, line):
            return record, []
    return read_line(line)


def _is_sound(record: Record, line: bytes) -> bool:
    """Return whether no key is repeated, no integer exceeds 64 bits, and nothing is nested too deeply."""
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH:
        return False
    num_keys = 0
    waiting: list[Any] = [record]
    while waiting:
        value = waiting.pop()
        num_keys += len(value) if isinstance(value, dict) else 0
        for each in value.values() if isinstance(value, dict) else value:
            if isinstance(each, dict | list):
                waiting.append(each)
            elif type(each) is int and each.bit_length() > 64:
                return False
    return num_keys == count_keys(line)


def _check_format(
    record: Record, found: RecordFormat | None, format: RecordFormat | None, named: bool
) -> Iterator[Finding]:
    if named and format is not None and not fits(record, format):
        yield _missing_keys(record, format)
    elif format is None or (found is None and not named):
        formats = "; ".join(" + ".join(sorted(keys)) for sets in KEYS.values() for keys in sets)
        keys = ", ".join(brief(key) for key in list(record)[:8]) or "none"
        advice = advise(meant) if (meant := meant_columns(record)) else f"Write one of: {formats}."
        yield Finding("", "unknown_format", f"The keys ({keys}) fit no format. {advice}")
    elif found is not format and not named:
        message = f"The row's format is {found}, but the file's is {format}. Use one format per file."
        yield Finding("", "mixed_formats", message)
    else:
        yield from check_record(record, format)


def _missing_keys(record: Record, format: RecordFormat) -> Finding:
    needed = min(KEYS[format], key=lambda keys: len(keys - record.keys()))
    missing = " and ".join(sorted(needed - record.keys()))
    required = " or ".join(" + ".join(sorted(keys)) for keys in KEYS[format])
    advice = f" {advise(meant)}" if (meant := meant_columns(record, [format])) else ""
    message = f"The row lacks {missing}. The specified format {format} requires {required}.{advice}"
    return Finding("", "missing_key", message)


def _check_texts(record: Record, texts: Sequence[str]) -> Iterator[Finding]:
    if any(map(CONTROL.search, texts)):
        for pointer, text in _strings(record):
            if found := CONTROL.search(text):
                message = f"The text has the control character U+{ord(found[0]):04X}. Remove it unless it is intended."
                yield Finding(pointer, "control_character", message)
    num_chars = sum(map(len, texts))
    if num_chars > LONG_CHARS:
        message = (
            f"The row has {num_chars:,} characters, which exceeds most models' context. Split it, or it is truncated."
        )
        yield Finding("", "long_row", message)


def _strings(value: Any, *at: str | int) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield pointer_to(*at), value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from _strings(each, *at, key)


def _texts(record: Record, format: RecordFormat) -> Iterator[str]:
    """Yield a valid record's texts, split in the same way as in `plain_rows`."""
    match format:
        case RecordFormat.messages:
            yield from _turn_texts(record["messages"])
            yield from _tools_text(record)
        case RecordFormat.sharegpt:
            yield from (turn["value"] for turn in record["conversations"])
            yield from _tools_text(record)
        case RecordFormat.prompt_completion:
            yield from (record["prompt"], record["completion"])
        case RecordFormat.alpaca:
            yield from filter(None, [record.get("system")])
            yield from (text for pair in record.get("history") or [] for text in pair)
            yield alpaca_question(record["instruction"], record.get("input"))
            yield record["output"]
        case RecordFormat.text:
            yield record["text"]
        case RecordFormat.preference:
            for key in sides_of(record):
                yield from _side_texts(record[key])


def _side_texts(side: Any) -> Iterator[str]:
    if isinstance(side, str):
        yield side
    elif isinstance(side, dict):
        yield from _turn_texts(side["messages"])
        yield from _tools_text(side)
    elif isinstance(side, list):
        yield from _turn_texts(side)


def _turn_texts(messages: list[Record]) -> Iterator[str]:
    for message in messages:
        yield text_of(message) or ""
        if message["role"] == "assistant" and message.get("reasoning_content"):
            yield message["reasoning_content"]
        if message.get("tool_calls"):
            yield msgspec.json.encode(message["tool_calls"]).decode()


def _tools_text(record: Record) -> Iterator[str]:
    if record.get("tools"):
        yield msgspec.json.encode(record["tools"]).decode()


def _shape(record: Record, format: RecordFormat) -> Shape:
    match format:
        case RecordFormat.messages:
            return tuple(message["role"] for message in record["messages"])
        case RecordFormat.sharegpt:
            return tuple(turn["from"] for turn in record["conversations"])
        case RecordFormat.alpaca:
            before = ("system",) if record.get("system") else ()
            return (*before, *(("user", "assistant") * len(record.get("history") or [])), "user", "assistant")
        case RecordFormat.preference:
            asked, better, _ = sides_of(record)
            prompt = record[asked]["messages"] if isinstance(record[asked], dict) else record[asked]
            sides = [side for side in (prompt, record[better]) if isinstance(side, list)]
            return tuple(turn["role"] for side in sides for turn in side)
        case _:
            return ()
