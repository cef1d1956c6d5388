"""Each kind of bad input that was named when this began, and its stable code: the child's own code
reads the whole file. That it runs within limits: `tests/integration/datasets/test_inspecting_process.py`."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from app.domain.datasets.problem import Problem, Severity
from tests.unit.inspection.files import ROWS, parquet, zipped
from worker.inspection.__main__ import inspect
from worker.inspection.formats.compression import zstd
from worker.inspection.protocol import PROBLEMS, InspectionRequest, InspectionTask

USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "hello"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
DEEP_TYPE = ANSWER | {"tool_calls": [{"function": {"name": "f", "arguments": 7}}]}
E, W = Severity.error, Severity.warning


def talk(*turns: dict[str, Any]) -> bytes:
    return json.dumps({"messages": turns}).encode()


def bad_footer() -> bytes:
    good = parquet(ROWS)
    return good[:-8] + (2**30).to_bytes(4, "little") + good[-4:]


TEXT = b'{"text": "a"}\n'
PACKED = gzip.compress(TEXT * 1000)
MANY = (b'{"text": "' + b"x" * 10**6 + b'"}\n') * 70

NAMED: dict[str, tuple[bytes, str, Severity]] = {
    "not UTF-8": (b'{"text": "\xe4"}', "not_utf8", E),
    "UTF-16": ('{"text": "a"}'.encode("utf-16"), "not_utf8", E),
    "a byte order mark": (b"\xef\xbb\xbf" + TEXT, "byte_order_mark", W),
    "CRLF": (b'{"text": "a"}\r\n{"text": "b"}\r\n', "crlf_line_endings", W),
    "NUL bytes in a line": (b'{"text": "a\0b"}', "nul_bytes", E),
    "NUL bytes behind the rows": (TEXT + bytes(5000), "nul_bytes", E),
    "NUL bytes alone": (bytes(5000), "nul_bytes", E),
    "a NUL in a text": (b'{"text": "a\\u0000b"}', "control_character", W),
    "a line of 200 MB": (b'{"text": "' + b"x" * (200 * 10**6) + b'"}', "line_too_long", E),
    "JSON 10,000 deep": (b'{"text": "a", "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nesting_too_deep", E),
    "an array 10,000 deep": (b"[" * 10_000 + b"]" * 10_000, "nesting_too_deep", E),
    "NaN": (b'{"text": "a", "n": NaN}', "invalid_number", E),
    "a key twice": (b'{"text": "a", "text": "b"}', "duplicate_key", E),
    "a zip, bomb or not": (zipped(), "zip_archive", E),
    "a gzip bomb": (gzip.compress(MANY, 9), "decompressed_too_large", E),
    "a zstd bomb": (zstd.compress(MANY), "decompressed_too_large", E),
    "a gzip in a gzip": (gzip.compress(PACKED), "unsupported_compression", E),
    "truncated gzip": (PACKED[:-20], "truncated_file", E),
    "a hostile footer": (bad_footer(), "corrupt_parquet", E),
    "an HTML page": (b"<!DOCTYPE html><title>Log in</title>", "html_page", E),
    "mixed formats": (TEXT + b'{"prompt": "a", "completion": "b"}', "mixed_formats", E),
    "an empty file": (b"", "no_rows", E),
    "only system turns": (talk({"role": "system", "content": "x"}), "no_conversation", E),
    "assistant first": (talk(ANSWER), "assistant_speaks_first", W),
    "two users in a row": (talk(USER, USER, ANSWER), "consecutive_same_role", W),
    "a tool call without an answer": (talk(USER, CALL, USER, ANSWER), "unanswered_tool_call", W),
    "weight of 2": (talk(USER, ANSWER | {"weight": 2}), "invalid_weight", E),
    "wrong types at depth": (talk(USER, DEEP_TYPE), "wrong_type", E),
    "half of a surrogate pair": (b'{"text": "\\ud800"}', "lone_surrogate", E),
    "a surrogate as bytes": (b'{"text": "\xed\xa0\x80"}', "not_utf8", E),
}
GIGANTIC = 2**40


@pytest.mark.parametrize("name", NAMED)
def test_it_is_reported_with_its_code(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, code, severity = NAMED[name]
    assert code in {each.code for each in read(data, tmp_path, monkeypatch) if each.severity is severity}


def test_a_right_to_left_override_in_the_files_name_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [problem] = read(TEXT, tmp_path, monkeypatch, unsafe_filename=True)
    assert (problem.code, problem.severity) == ("unsafe_filename", W)


def read(data: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch, *, unsafe_filename: bool = False) -> list[Problem]:
    """What `python -m worker.inspection` leaves of a file."""
    monkeypatch.chdir(folder)
    request = InspectionRequest(
        task=InspectionTask.inspect,
        filename="rows.jsonl",
        unsafe_filename=unsafe_filename,
        format=None,
        memory_bytes=GIGANTIC,
        cpu_seconds=GIGANTIC,
        max_file_bytes=GIGANTIC,
    )
    inspect(request, io.BytesIO(data))
    problems = [Problem.model_validate_json(line) for line in Path(PROBLEMS).read_text().splitlines()]
    assert all(each.message.endswith(".") and each.line for each in problems)
    return problems
