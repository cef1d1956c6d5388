"""Makes malformed files, and checks what must hold for the inspection of any file.

A seed makes a file: some rows of the formats in some container, perhaps packed, with some damage before and after
packing. Every file is inspected twice: as in production, and with every row checked closely. Both inspections must
report the same, in time, and the training must accept every row that is reported as good.
"""

import io
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest.mock import patch

from app.domain.datasets.container import CONTAINER_CODES
from app.domain.datasets.formats import RecordFormat, fits, is_blank, parse_line
from app.domain.datasets.problem import CODES, Problem
from app.domain.datasets.report import Report
from app.domain.datasets.validation import check_record
from tests.fuzz.containers import CONTAINERS, PACKINGS, WRAPPINGS
from worker.inspection.fast_check import NOTHING, FastCheck
from worker.inspection.formats.containers import Unreadable, UploadedRows, read_rows
from worker.inspection.inspection import InspectedRows, Inspection

MOST_SECONDS: Final = 1.0
"""Limit for one file, on a busy machine."""
TEXTS: Final = (
    *("hi", " HI\n", "hello", "2+2=", "Hi  there", "", " ", "\u3000", "\u00a0x", "a :b", ': "', '{"a": 1}', "\\"),
    *("日本語のテキスト", "שלום", "é", "😀", "a\0b", "\x1e", "\x1f\x1f", "\x7f", "<eos>", "\u2028", "x" * 300, 'x":y'),
    *("a\vb", "\v"),
)  # fmt: skip
ODD: Final = (None, True, 0, 1, 2, -1.5, 10**20, 10**1200, [], {}, [[]], [{}], {"a": {"a": 1}}, "x", 1e308)
KEYS: Final = (
    *("id", "source", "weight", "name", "tools", "text", "prompt", "completion", "a b", 'q"', "ключ", "system"),
    "input",
)  # fmt: skip
SNIPPETS: Final = (
    *(b"NaN", b"-Infinity", b"1e999", b'"\\ud800"', b"\\udc00", b'"a":1,"a":2,', b'"role":"user",', b"\xff"),
    *(b"\xef\xbb\xbf", b"\x00", b"\r", b"\n", b"\n\n", b"[" * 120, b'{"a":' * 60, b"}{", b"},", b'"', b"\\", b" :"),
    *(b"9" * 30, b"\\u0000", b"\\u001f", b'"weight":2,', b"<html><body>", b"\x1f\x8b\x08", b"PAR1"),
    *(b"\x28\xb5\x2f\xfd", b"\t:", b":", b"\xed\xa0\x80"),
)  # fmt: skip


NAMES: Final = (
    *("rows.jsonl", "rows.json", "rows.csv", "rows.parquet", "rows.txt", "rows.jsonl.gz", "rows", "", "a/../b\n.csv"),
)  # fmt: skip


class Inspected(NamedTuple):
    report: Report
    problems: list[Problem]
    hashes: bytes
    groups: list[Problem]
    """Problems with the same text, combined into one."""
    rows: bytes
    """Rows as they are kept when the file itself is not JSON Lines."""


def make_file(seed: int) -> tuple[str, bytes, RecordFormat | None]:
    """Return a name, the bytes, and the format given at the upload, if any."""
    rng = random.Random(seed)
    container = rng.choice((*["jsonl"] * 6, *CONTAINERS))
    packing = rng.choice((*[""] * 4, *PACKINGS))
    data = CONTAINERS[container](rng, list(make_rows(rng)))
    data = damage(rng, data, rng.choice((0, 0, 0, 1, 1, 2, 5)))
    data = PACKINGS[packing](rng.choice(WRAPPINGS)(data))
    if packing:
        data = damage(rng, data, rng.choice((0, 0, 0, 1)))
    name = rng.choice((f"rows.{container}{packing}", f"rows.{container}{packing}", *NAMES))
    return name, data, rng.choice((*[None] * 20, *RecordFormat))


def damage(rng: random.Random, data: bytes, times: int) -> bytes:
    for _ in range(times):
        data = rng.choice(DAMAGING_CHANGES)(rng, data)
    return data


def make_rows(rng: random.Random) -> Iterator[Any]:
    makers = [rng.choice(MAKERS)] * 6 + list(MAKERS)
    extra = rng.sample(KEYS[:2], rng.choice((0, 0, 1, 2)))
    for number in range(rng.choice((1, 2, 5, 12))):
        row = rng.choice(makers if rng.random() < 0.03 else makers[:6])(rng)
        row |= dict.fromkeys(extra, number)
        if rng.random() < 0.1:
            row[rng.choice(KEYS)] = rng.choice((*ODD, *TEXTS))
        if rng.random() < 0.05:
            row.pop(rng.choice(list(row)), None)
        yield row


def choose_text(rng: random.Random) -> Any:
    return rng.choice(TEXTS[: 4 if rng.random() < 0.8 else None]) if rng.random() > 0.01 else rng.choice(ODD)


def make_turns(rng: random.Random, by: str, text: str, roles: tuple[str, ...]) -> list[Any]:
    conversation: list[Any] = []
    for number in range(rng.choice((0, 1, 2, 2, 2, 2, 2, 2, 3, 4, 4))):
        role: Any = roles[number % 2] if rng.random() < 0.85 else rng.choice((*roles, "system", "robot", None))
        turn = {by: role, text: choose_text(rng)}
        if rng.random() < 0.1:
            turn[rng.choice(("weight", "name", "tool_calls", "tool_call_id", "what"))] = rng.choice((*ODD, *CALLS))
        conversation.append(turn if rng.random() > 0.02 else rng.choice(ODD))
    return conversation


CALLS: Final = (
    [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
    [{"name": "f", "arguments": {"a": 1}}],
    [{"function": {"name": 7}}],
)
Maker = Callable[[random.Random], dict[str, Any]]
MAKERS: Final[tuple[Maker, ...]] = (
    lambda rng: {"messages": make_turns(rng, "role", "content", ("user", "assistant", "tool"))},
    lambda rng: {"conversations": make_turns(rng, "from", "value", ("human", "gpt", "function_call", "observation"))},
    lambda rng: {"prompt": choose_text(rng), "completion": choose_text(rng)},
    lambda rng: {"instruction": choose_text(rng), "input": choose_text(rng), "output": choose_text(rng)},
    lambda rng: {
        "instruction": choose_text(rng),
        "output": choose_text(rng),
        "history": rng.choice(([["a", "b"]], *ODD)),
    },
    lambda rng: {"text": choose_text(rng)},
    lambda rng: {"prompt": choose_text(rng), "chosen": choose_text(rng), "rejected": choose_text(rng)},
    lambda rng: {
        "input": rng.choice(({"messages": make_turns(rng, "role", "content", ("user", "assistant"))}, *ODD)),
        "preferred_output": make_turns(rng, "role", "content", ("assistant", "user")),
        "non_preferred_output": make_turns(rng, "role", "content", ("assistant", "user")),
    },
)


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice(SNIPPETS) + data[at:]


def _flip(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data)) if data else 0
    return data[:at] + rng.randbytes(1) + data[at + 1 :]


def _cut(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
    return data[:start] + data[min(end, start + 20) :]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
    return data[:end] + data[start:end] + data[end:]


def _double_a_key(rng: random.Random, data: bytes) -> bytes:
    return data.replace(b"{", b'{"text":"t",' if rng.random() < 0.5 else b'{"content" : "c",', rng.choice((1, 1, 9)))


DAMAGING_CHANGES: Final = (
    *(_insert, _insert, _insert, _flip, _cut, _repeat, _double_a_key),
    lambda rng, data: data[: rng.randint(0, len(data))],
)


def inspect(
    folder: Path, name: str, data: bytes, named: RecordFormat | None, *, unsafe_filename: bool = False
) -> Inspected:
    """Inspect a file. `folder` may hold what an earlier inspection left."""
    kept = io.BytesIO()
    inspection = Inspection(folder, named, InspectedRows(kept, good_only=False))
    try:
        rows = read_rows(io.BytesIO(data), name, folder, named)
    except Unreadable as error:
        inspection.problems.note(error.line, error.finding)
        rows = UploadedRows("jsonl", "none", "", True, iter(()))
    inspection.read(rows.blocks)
    inspection.note_file(rows, unsafe_filename=unsafe_filename)
    hashes = folder / "hashes"
    inspection.conclude(hashes)
    problems = inspection.problems.in_order()
    groups = inspection.problems.grouped()
    return Inspected(inspection.report(rows), problems, hashes.read_bytes(), groups, kept.getvalue())


def check_file(seed: int, folder: Path) -> Report:
    """Raise an AssertionError if something does not hold for this file."""
    name, data, named = make_file(seed)
    found, seconds = timed(folder, name, data, named)
    if seconds >= MOST_SECONDS:  # the machine may have been busy
        found, seconds = timed(folder, name, data, named)
    assert seconds < MOST_SECONDS, f"{seconds:.1f} s"
    with patch.object(FastCheck, "clear", lambda *_: NOTHING):
        closely = inspect(folder, name, data, named)
    assert found == closely, "the fast check and the close check disagree"
    check_report(found)
    check_good_rows(found)
    check_bad_rows(found)
    return found.report


def timed(folder: Path, name: str, data: bytes, named: RecordFormat | None) -> tuple[Inspected, float]:
    began = time.perf_counter()
    return inspect(folder, name, data, named), time.perf_counter() - began


def check_report(found: Inspected) -> None:
    report = found.report
    stored = [*report.statistics.columns, *(problem.pointer + problem.message for problem in found.problems)]
    assert "\0" not in "".join(stored)
    "".join(stored).encode()
    assert 0 <= report.num_bad_rows <= report.num_examples
    num_good = report.num_examples - report.num_bad_rows
    assert len(found.hashes) == 24 * num_good
    assert sum(each.num_rows for each in report.statistics.lengths) == num_good
    assert sum(report.problem_counts.values()) >= len(found.problems)
    assert (
        {problem.code for problem in found.problems}
        == report.problem_counts.keys()
        <= CODES.keys() | CONTAINER_CODES.keys()
    )
    assert all(problem.line >= 1 and problem.message for problem in found.problems)
    assert sum(group.count for group in found.groups) <= sum(report.problem_counts.values())
    assert all(group.lines[0] == group.line and len(group.lines) <= min(group.count, 10) for group in found.groups)
    errors = {problem.line for problem in found.problems if problem.severity == "error"}
    assert report.valid == (not errors)


def check_good_rows(found: Inspected) -> None:
    """Check that a training accepts the rows that were reported as good."""
    bad = {problem.line for problem in found.problems if problem.severity == "error"}
    rows = [row for number, row in enumerate(found.rows.split(b"\n"), 1) if number not in bad and not is_blank(row)]
    assert len(rows) == found.report.num_examples - found.report.num_bad_rows
    for row in rows:
        assert is_good(row, found.report.format), row


def check_bad_rows(found: Inspected) -> None:
    """Check that a job that skips bad rows, and looks for them itself, finds exactly those that were counted."""
    if found.report.bad_share is not None:
        rows = [row for row in found.rows.split(b"\n") if not is_blank(row)]
        assert len(rows) == found.report.num_examples
        assert sum(not is_good(row, found.report.format) for row in rows) == found.report.num_bad_rows


def is_good(row: bytes, format: RecordFormat | None) -> bool:
    """Judge a row by the rules of `worker.training.rows.rendering`."""
    record = parse_line(row)
    if format is None or not isinstance(record, dict) or not fits(record, format):
        return False
    return not any(finding.is_error for finding in check_record(record, format))
