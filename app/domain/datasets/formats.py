"""Parses a line to a dataset's record, and finds its format. `validation` checks its content."""

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

from app.domain.datasets.problem import Finding, brief, kind_of, pointer_to


class RecordFormat(StrEnum):
    preference = "preference"
    messages = "messages"
    prompt_completion = "prompt_completion"
    alpaca = "alpaca"
    sharegpt = "sharegpt"
    text = "text"


KEYS: Final[dict[RecordFormat, tuple[frozenset[str], ...]]] = {
    RecordFormat.preference: (
        frozenset({"prompt", "chosen", "rejected"}),
        frozenset({"input", "preferred_output", "non_preferred_output"}),
    ),
    RecordFormat.messages: (frozenset({"messages"}),),
    RecordFormat.prompt_completion: (frozenset({"prompt", "completion"}),),
    RecordFormat.alpaca: (frozenset({"instruction", "output"}),),
    RecordFormat.sharegpt: (frozenset({"conversations"}),),
    RecordFormat.text: (frozenset({"text"}),),
}
"""Lists the keys that a record of a format must have, one set or the other. The first format that fits is chosen."""

READ_TOO: Final[dict[RecordFormat, frozenset[str]]] = {
    RecordFormat.messages: frozenset({"tools", "functions"}),
    RecordFormat.sharegpt: frozenset({"tools"}),
    RecordFormat.alpaca: frozenset({"input", "system", "history"}),
}
"""Lists further keys of a format's rows, which are read or refused."""

MAX_LINE_BYTES: Final = 8 * 2**20
"""Allows about two million tokens. Parsing a malicious line of this length takes 250 MB."""
MAX_DEPTH: Final = 100
MAX_DIGITS: Final = 1000
MAX_DOUBLED: Final = 100
"""Limits the duplicate keys that are reported for one row."""
ESCAPED_SURROGATE: Final = re.compile(rb"\\u[dD][89abAB]|\\u[dD][c-fC-F]")

Record = dict[str, Any]


def is_blank(line: bytes) -> bool:
    """Say whether the line holds only white space, with or without the byte order mark that some editors write."""
    return not line.removeprefix(codecs.BOM_UTF8).strip()


def parse_line(line: bytes) -> Record | Finding:
    """Return a JSON object, or the error of a line that holds none. A byte order mark before it is accepted."""
    record, findings = read_line(line)
    error = next((finding for finding in findings if finding.is_error), None)
    if error is not None:
        return error
    assert record is not None
    return record


def read_line(line: bytes) -> tuple[Record | None, list[Finding]]:
    """Return a JSON object and the findings on the line. The object is None if the line holds none that can be used."""
    if len(line) > MAX_LINE_BYTES:
        message = f"The line is longer than {MAX_LINE_BYTES:,} bytes; split the record."
        return None, [Finding("", "line_too_long", message)]
    text = line.removeprefix(codecs.BOM_UTF8)
    findings = []
    if len(text) < len(line):
        message = "The row begins with a byte order mark; save the file as UTF-8 without one."
        findings.append(Finding("", "byte_order_mark", message))
    pairs = _Pairs()
    try:
        record = json.loads(
            text.decode("utf-8"), parse_constant=_refuse_constant, parse_int=_read_int, object_pairs_hook=pairs.read
        )
    except (ValueError, RecursionError) as error:
        return None, [*findings, _explain_parse_error(line, error)]
    if not isinstance(record, dict):
        message = f"The line is a JSON {kind_of(record)}; write one JSON object per line."
        return None, [*findings, Finding("", "not_an_object", message)]
    unusable = _find_unusable(text, record)
    if unusable is not None:
        return None, [*findings, unusable]
    return record, [*findings, *pairs.findings(record)]


def find_format(record: Record) -> RecordFormat | None:
    return next((format for format in KEYS if fits(record, format)), None)


def fits(record: Record, format: RecordFormat) -> bool:
    """Say whether the record has the format's keys, whatever else it has."""
    return any(keys <= record.keys() for keys in KEYS[format])


def keys_of(record: Record, format: RecordFormat) -> list[str]:
    """Return the keys by which the record fits the format."""
    return sorted(next(keys for keys in KEYS[format] if keys <= record.keys()))


def unused_keys(record: Record, format: RecordFormat) -> list[str]:
    """Return a record's keys that training does not read in this format."""
    used = next(keys for keys in KEYS[format] if keys <= record.keys()) | READ_TOO.get(format, frozenset())
    return [key for key in record if key not in used]


class _Pairs:
    """Builds objects during parsing, and records the first ones with a duplicate key. The key's last value counts."""

    def __init__(self) -> None:
        self._doubled: list[tuple[Record, str]] = []

    def read(self, pairs: list[tuple[str, Any]]) -> Record:
        record = dict(pairs)
        if len(record) < len(pairs) and len(self._doubled) < MAX_DOUBLED:
            counts = Counter(key for key, _ in pairs)
            self._doubled += [(record, key) for key, count in counts.items() if count > 1]
        return record

    def findings(self, whole: Record) -> Iterator[Finding]:
        pointers = _pointers(whole, {id(record) for record, _ in self._doubled}) if self._doubled else {}
        for record, key in self._doubled[:MAX_DOUBLED]:
            message = f"The object has the key {brief(key)} twice; keep one of them."
            yield Finding(pointers.get(id(record), "") + pointer_to(key), "duplicate_key", message)


def _pointers(whole: Record, wanted: set[int]) -> dict[int, str]:
    """Return objects' pointers by their `id`. An object that a later value of its key replaced has none."""
    found: dict[int, str] = {}
    waiting: list[tuple[Any, tuple[str | int, ...]]] = [(whole, ())]
    while waiting and len(found) < len(wanted):
        value, at = waiting.pop()
        if id(value) in wanted:
            found[id(value)] = pointer_to(*at)
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        waiting += [(each, (*at, key)) for key, each in inner if isinstance(each, dict | list)]
    return found


def _explain_parse_error(line: bytes, error: ValueError | RecursionError) -> Finding:
    match error:
        case UnicodeDecodeError():
            mark = len(codecs.BOM_UTF8) if line.startswith(codecs.BOM_UTF8) else 0
            message = f"Byte {mark + error.start + 1} of the line is not UTF-8; save the file as UTF-8."
            return Finding("", "not_utf8", message)
        case json.JSONDecodeError() if b"\0" in line:
            return Finding("", "nul_bytes", "The line contains a NUL byte; remove it, or write the file again.")
        case json.JSONDecodeError():
            where = f"{error.msg} at character {error.pos + 1}"
            return Finding("", "not_json", f"The line is not valid JSON ({where}); write one JSON object per line.")
        case RecursionError():
            return _report_too_deep()
        case _:
            return Finding("", "invalid_number", str(error))


def _find_unusable(line: bytes, record: Record) -> Finding | None:
    """Find content that JSON allows but tokenizers or templates cannot process. A byte count clears most lines."""
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(record) > MAX_DEPTH:
        return _report_too_deep()
    if ESCAPED_SURROGATE.search(line):
        try:
            json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            message = "A surrogate escape (\\ud8… to \\udf…) is unpaired; write both halves of the pair."
            return Finding("", "lone_surrogate", message)
    return None


def _depth(value: object) -> int:
    """Count the levels of nesting, up to MAX_DEPTH + 1."""
    level = [value]
    depth = 0
    while level and depth <= MAX_DEPTH:
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [value for values in inner for value in values]
        depth += bool(inner)
    return depth


def _report_too_deep() -> Finding:
    return Finding("", "nesting_too_deep", f"The line nests deeper than {MAX_DEPTH} levels; flatten the record.")


def _read_int(digits: str) -> int:
    # Python refuses more than 4,300 digits with a less helpful message.
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"A number has {len(digits):,} digits; write it as a string, or with at most {MAX_DIGITS:,}.")
    return int(digits)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON; write a number, a string or null.")
