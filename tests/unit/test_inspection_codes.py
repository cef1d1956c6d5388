"""Each code of a problem: what is found, where, how bad it is, and what is good enough not to be found."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from app.domain.datasets.conversation import to_messages, tools_of
from app.domain.datasets.formats import KEYS, RecordFormat
from app.domain.datasets.problem import CODES, Severity
from tests.fixtures.inspection import codes, inspect, inspect_bytes, inspect_lines, line
from tests.fuzz.datasets import inspect as inspect_file

PAGE = Path(__file__).parents[2] / "docs/datasets.md"
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "hello"}
ASKED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TWICE = ASKED | {"tool_calls": [CALL, CALL]}
TOOL = {"role": "tool", "content": "4", "tool_call_id": "c1"}
PART = {"type": "text", "text": "hi"}
HUMAN, GPT = {"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}
PAIR = {"prompt": "hi", "chosen": "hello", "rejected": "go away"}


def talk(*turns: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(turns), **more}


def sharegpt(*turns: Any, **more: Any) -> dict[str, Any]:
    return {"conversations": list(turns), **more}


ROWS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    (talk({"role": "system", "content": "Be kind."}), [("/messages", "no_conversation")]),
    (talk(ANSWER), [("/messages/0", "assistant_speaks_first")]),
    (talk({"role": "system", "content": "x"}, ANSWER, USER, ANSWER), [("/messages/1", "assistant_speaks_first")]),
    (talk(USER, USER, ANSWER), [("/messages/1", "consecutive_same_role")]),
    (talk(USER, ANSWER, ANSWER), [("/messages/2", "consecutive_same_role")]),
    (talk(USER, ASKED, USER, ANSWER), [("/messages/1/tool_calls", "unanswered_tool_call")]),
    (talk(USER, ASKED, TOOL | {"tool_call_id": "c2"}, ANSWER), [("/messages/1/tool_calls", "unanswered_tool_call")]),
    (talk(USER, TWICE, TOOL, ANSWER), [("/messages/1/tool_calls", "unanswered_tool_call")]),
    (
        talk(USER, ANSWER | {"weight": 2}),
        [("/messages", "no_trainable_text"), ("/messages/1/weight", "invalid_weight")],
    ),
    (talk(USER | {"contents": 1}, ANSWER), [("/messages/0/contents", "unused_key")]),
    (talk(USER | {"a/b~": 1}, ANSWER), [("/messages/0/a~1b~0", "unused_key")]),
    (talk(USER | {"weight": 1}, ANSWER), [("/messages/0/weight", "unused_key")]),
    (talk(USER | {"annotations": None}, ANSWER | {"audio": None, "function_call": None, "refusal": None}), []),
    (talk(USER | {"content": [PART | {"cache": 1}]}, ANSWER), [("/messages/0/content/0/cache", "unused_key")]),
    (talk(USER, ANSWER, prompt="x"), [("/prompt", "unused_key")]),
    ({"prompt": "a", "completion": "b", "a/b": None}, [("/a~1b", "unused_key")]),
    (PAIR | {"input": "more"}, [("/input", "unused_key")]),
    (
        talk({"role": "User", "content": "hi"}, ANSWER),
        [("/messages/0/role", "unknown_role"), ("/messages/1", "assistant_speaks_first")],
    ),
    (talk(USER | {"content": " \n"}, ANSWER), [("/messages/0/content", "empty_content")]),
    (talk(USER | {"content": "\u3000"}, ANSWER), [("/messages/0/content", "empty_content")]),
    (talk(USER, ANSWER | {"tool_calls": [{"id": "c1"}]}), [("/messages/1/tool_calls/0", "wrong_type")]),
    (
        talk(USER, ANSWER | {"tool_calls": [{"function": {"name": "f", "arguments": 7}}]}),
        [("/messages/1/tool_calls/0/function/arguments", "wrong_type")],
    ),
    (talk(USER, ANSWER, tools=[1]), [("/tools", "wrong_type")]),
    (talk(USER, ANSWER, tools="no json"), [("/tools", "wrong_type")]),
    (talk(USER | {"content": "a\0b"}, ANSWER), [("/messages/0/content", "control_character")]),
    ({"text": "a\x1fb"}, [("/text", "control_character")]),
    ({"text": "a\x7f"}, [("/text", "control_character")]),
    ({"text": "word " * 30_000}, [("", "long_row")]),
    (sharegpt(GPT), [("/conversations/0", "assistant_speaks_first")]),
    (sharegpt(HUMAN, HUMAN, GPT), [("/conversations/1", "consecutive_same_role")]),
    (sharegpt({"from": "system", "value": "x"}), [("/conversations", "no_conversation")]),
    (
        sharegpt(HUMAN, {"from": "function_call", "value": "add"}, GPT),
        [("/conversations/1/value", "wrong_type"), ("/conversations/1/tool_calls", "unanswered_tool_call")],
    ),
    (
        sharegpt(HUMAN, GPT | {"weight": 7}),
        [("/conversations", "no_trainable_text"), ("/conversations/1/weight", "invalid_weight")],
    ),
    *(
        (talk(USER | {"content": [PART, {"type": type, type: {}}]}, ANSWER), [("/messages/0/content/1", code)])
        for type, code in {
            "image_url": "image_part_unsupported",
            "input_audio": "audio_part_unsupported",
            "video_url": "video_part_unsupported",
            "file": "file_part_unsupported",
            "drawing": "unknown_part",
        }.items()
    ),
    (talk(USER, ANSWER | {"audio": {"id": "a"}}), [("/messages/1/audio", "audio_part_unsupported")]),
    (talk(USER | {"content": ["hi"]}, ANSWER), [("/messages/0/content/0", "unknown_part")]),
    (talk(USER | {"content": []}, ANSWER), [("/messages/0/content", "wrong_type")]),
    (talk(USER | {"content": [PART, {"type": "text"}]}, ANSWER), [("/messages/0/content/1/text", "wrong_type")]),
    (talk(USER | {"content": [PART | {"text": " "}]}, ANSWER), [("/messages/0/content", "empty_content")]),
    (talk(USER, ANSWER | {"refusal": "No."}), [("/messages/1/refusal", "refusal_beside_content")]),
    (
        talk(USER, ANSWER | {"content": None, "refusal": 7}),
        [("/messages", "no_trainable_text"), ("/messages/1/refusal", "wrong_type")],
    ),
    (talk(USER, ANSWER, functions=[{"name": "f"}]), [("/functions", "legacy_functions")]),
    (
        talk(USER, ANSWER | {"function_call": {"name": "f"}}, {"role": "function", "content": "4"}, ANSWER),
        [
            ("/messages/1/function_call", "legacy_functions"),
            ("/messages/2/role", "legacy_functions"),
            ("/messages/3", "consecutive_same_role"),
        ],
    ),
    (PAIR | {"rejected": "hello"}, [("/rejected", "identical_answers")]),
    (PAIR | {"chosen": ""}, [("/chosen", "no_trainable_text")]),
    (PAIR | {"chosen": 7}, [("/chosen", "wrong_type")]),
    (PAIR | {"prompt": [USER], "chosen": [USER], "rejected": [ANSWER]}, [("/chosen", "no_trainable_text")]),
    (
        {"input": {"messages": [USER, ASKED, USER]}, "preferred_output": [ANSWER], "non_preferred_output": [ASKED]},
        [("/input/messages/1/tool_calls", "unanswered_tool_call")],
    ),
    (
        {"input": {"messages": []}, "preferred_output": "x", "non_preferred_output": [ANSWER]},
        [
            ("/input/messages", "wrong_type"),
            ("/non_preferred_output/0", "assistant_speaks_first"),
            ("/preferred_output", "wrong_type"),
        ],
    ),
    ({"content": "x"}, [("", "unknown_format")]),
]  # fmt: skip
GOOD: list[tuple[RecordFormat, dict[str, Any]]] = [
    (RecordFormat.messages, talk(USER, ASKED, TOOL, ANSWER, tools=[{"type": "function"}])),
    (RecordFormat.messages, talk(USER, ASKED, tools=json.dumps([{"type": "function"}]))),
    (RecordFormat.messages, talk(USER, ANSWER | {"weight": 0}, USER, ANSWER | {"weight": 1})),
    (RecordFormat.messages, talk(USER, ASKED | {"tool_calls": [{"name": "add", "arguments": {"a": 1}}]}, TOOL)),
    (RecordFormat.messages, talk(USER | {"content": [PART, PART]}, ANSWER | {"content": [PART]}, functions=None)),
    (RecordFormat.messages, talk(USER, ANSWER | {"content": None, "refusal": "I must not."})),
    (RecordFormat.messages, talk(USER, ANSWER | {"content": [{"type": "refusal", "refusal": "I must not."}]})),
    (RecordFormat.sharegpt, sharegpt({"from": "system", "value": ""}, HUMAN, GPT, tools="[]")),
    (
        RecordFormat.sharegpt,
        sharegpt(
            HUMAN,
            {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
            {"from": "observation", "value": "4"},
            GPT,
            tools='[{"name": "add"}]',
        ),
    ),
    (RecordFormat.alpaca, {"instruction": "add", "input": "", "output": "4", "system": "s", "history": [["a", "b"]]}),
    (RecordFormat.preference, PAIR),
    (RecordFormat.preference, PAIR | {"prompt": [USER], "chosen": [ANSWER], "rejected": [ANSWER | {"content": "no"}]}),
    (
        RecordFormat.preference,
        {"input": {"messages": [USER], "tools": []}, "preferred_output": [ANSWER], "non_preferred_output": [ASKED]},
    ),
]
LINES = [
    (b'{"text": NaN}', "", "invalid_number"),
    (b'{"text": "x", "n": -Infinity}', "", "invalid_number"),
    (b'{"text": "a", "text": "b"}', "/text", "duplicate_key"),
    (b'{"text": "a", "te\\u0078t": "b"}', "/text", "duplicate_key"),
    (b'{"text" :"a","text":"b"}', "/text", "duplicate_key"),
    (b'{"text"\t:"a", "text" : "b"}', "/text", "duplicate_key"),
    (b'{"text": "a", "m": {"k": {"x": 1, "x": 2}}}', "/m/k/x", "duplicate_key"),
    (b'{"messages": [{"role": "user", "role": "user", "content": "x"}]}', "/messages/0/role", "duplicate_key"),
    (b'{"text": "a :\\": b", "text": "c"}', "/text", "duplicate_key"),
    (b'{"text": "\\ud800"}', "", "lone_surrogate"),
    (b'\xef\xbb\xbf{"text": "a"}', "", "byte_order_mark"),
    (b'{"text": "\xff"}', "", "not_utf8"),
    (b"<html>", "", "not_json"),
    (b"[]", "", "not_an_object"),
    (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "", "nesting_too_deep"),
    (b'{"text": "' + b"x" * 2**23 + b'"}', "", "line_too_long"),
]
BY_WORKER = {"file_missing", "source_deleted", "unreadable_file", "md5_mismatch", "unsafe_filename"}
"""Found where the file is stored and read: see the integration tests."""
OF_FILES = {"no_rows", "mixed_formats", "missing_key", "duplicate_row", "near_duplicate_row", "crlf_line_endings"}
OF_FILES |= {"text_lines_are_rows"}


@pytest.mark.parametrize(("record", "found"), ROWS)
def test_what_is_wrong_with_a_row(record: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert sorted(codes(record)) == sorted(found)
    report = inspect([line(record)])
    assert report.valid == all(CODES[code][0] is Severity.warning for _, code in found)
    assert report.num_bad_rows == (not report.valid)


@pytest.mark.parametrize(("format", "record"), GOOD)
def test_nothing_is_wrong_with_these(format: RecordFormat, record: dict[str, Any]) -> None:
    report = inspect([line(record)])
    assert (report.format, report.problems) == (format, [])
    if format is RecordFormat.sharegpt and tools_of(record):
        call = to_messages(record, format)[1]
        assert (call.role, call.content) == ("assistant", None)
        assert call.tool_calls == [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]


def test_turns_of_a_preference_are_those_that_are_preferred() -> None:
    ours = {"prompt": [USER], "chosen": [ANSWER], "rejected": [ANSWER | {"content": "no"}, USER, ANSWER]}
    theirs = {"input": {"messages": [USER]}, "preferred_output": [ASKED], "non_preferred_output": [ANSWER]}
    found = inspect(map(line, (ours, theirs, PAIR, PAIR | {"prompt": "ho", "chosen": [ANSWER]}))).statistics
    assert found.roles == {"user": 2, "assistant": 3}
    assert [(each.max, each.num_rows) for each in found.turns] == [(1, 1), (2, 2)]


@pytest.mark.parametrize(("raw", "pointer", "code"), LINES)
def test_what_is_wrong_with_a_line(raw: bytes, pointer: str, code: str) -> None:
    """The same among good rows, which are cleared in a batch, and alone."""
    good = b'{"text": "good"}'
    for lines, number in (([raw], 1), ([b"", raw], 2), ([good, b'{"text": "better"}', raw, b'{"text": "best"}'], 3)):
        found = inspect_lines(lines)
        assert (number, pointer, code) in [(each.line, each.pointer, each.code) for each in found.problems]
        assert found.report.num_bad_rows == (CODES[code][0] is Severity.error)


def test_a_file_of_two_formats_is_one_of_the_first() -> None:
    report = inspect([line({"text": "a"}), line(PAIR), line({"text": "b", "id": 1})])
    assert (report.format, report.format_reason) == (RecordFormat.text, "Line 1 has the keys text.")
    assert [(each.line, each.code) for each in report.problems] == [(2, "mixed_formats"), (3, "unused_key")]


def test_a_format_that_is_named_is_the_measure() -> None:
    rows = [
        {"text": "a", "prompt": "b", "completion": "c"},
        {"text": "d"},
        {"prompt": "e", "completion": "f"},
        {"g": 1},
    ]
    report = inspect(map(line, rows), RecordFormat.text)
    assert (report.format, report.format_reason) == (RecordFormat.text, "The format was specified at upload.")
    missing, *unused = report.problems
    assert (missing.code, missing.count, missing.lines) == ("missing_key", 2, [3, 4])
    assert [(each.line, each.pointer) for each in unused] == [(1, "/prompt"), (1, "/completion")]
    assert "lacks text" in report.problems[0].message
    found = inspect(map(line, rows))
    assert found.format is RecordFormat.prompt_completion
    assert [(each.line, each.code) for each in found.problems] == [
        (2, "mixed_formats"),
        (4, "unknown_format"),
        (1, "unused_key"),
    ]


def test_rows_that_are_the_same_are_warned_of() -> None:
    rows = [{"text": "One two"}, {"text": "one  TWO "}, {"id": 7, "text": "One two"}, {"text": "onetwo"}]
    found = inspect_lines(map(line, rows))
    assert found.report.valid
    assert found.report.statistics.duplicates.model_dump() == {"exact": 1, "normalised": 2}
    [unused] = [each for each in found.problems if each.code == "unused_key"]
    assert (unused.line, unused.pointer) == (3, "/id")
    same = [each for each in found.problems if each is not unused]
    shown = {(each.line, each.code, re.findall(r"line (\d+)", each.message)[0]) for each in same}
    assert {(line, code) for line, code, _ in shown} <= {
        (2, "near_duplicate_row"),
        (3, "duplicate_row"),
        (3, "near_duplicate_row"),
    }
    assert (3, "duplicate_row", "1") in shown


def test_the_page_has_every_code() -> None:
    rows = [f"| `{code}` | {severity} | {text} |" for code, (severity, text) in CODES.items()]
    assert "\n".join(["| code | severity | means |", "| --- | --- | --- |", *rows]) in PAGE.read_text()
    formats = re.findall(r"^\| `(\w+)` \| `", PAGE.read_text(), re.M)
    assert set(formats[: len(KEYS)]) == set(KEYS)


def test_every_code_is_tested() -> None:
    tested = {code for _, found in ROWS for _, code in found} | {code for *_, code in LINES} | BY_WORKER
    assert tested | OF_FILES == set(CODES)


def test_windows_lines_and_a_mark_are_reported_and_no_fault() -> None:
    report, problems, _ = inspect_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}\r\n\r\n{"text": "c"}')
    assert {(each.line, each.code) for each in problems} == {(1, "byte_order_mark"), (1, "crlf_line_endings")}
    assert (report.num_examples, report.statistics.num_blank_lines, report.valid) == (3, 1, True)


def test_a_key_that_is_not_read_is_reported_once_with_its_count() -> None:
    """Rows of which all but the first are cleared in a batch, and rows that are looked at one by one."""
    plain = [{"text": f"row {number}", "id": number, "source": "desk"} for number in range(50)]
    noted = [talk(USER | {"content": f"{n}", "note": "x"}, ANSWER | {"reasoning": "x"}, id=n) for n in range(1, 50)]
    found = inspect_lines(map(line, [{"text": "first"}, *plain])).report
    assert [(each.pointer, each.count, each.line) for each in found.problems] == [("/id", 50, 2), ("/source", 50, 2)]
    assert found.problem_counts == {"unused_key": 100}
    inspected = inspect_lines(map(line, noted))
    assert [(each.pointer, each.count, each.lines) for each in inspected.report.problems] == [
        ("/messages/0/note", 49, [*range(1, 11)]),
        ("/messages/1/reasoning", 49, [*range(1, 11)]),
        ("/id", 49, [1]),
    ]
    assert len(inspected.problems) == 3, "each row adds no more to the list by line"
    assert "did you mean 'reasoning_content'?" in inspected.report.problems[1].message


def test_what_is_wrong_with_every_row_comes_once_and_first() -> None:
    rows = [{"prompt": f"{number}"} for number in range(10_000)]
    rows[6] = {"prompt": "x", "completion": ""}
    found = inspect_lines(map(line, rows), RecordFormat.prompt_completion)
    first, second = found.report.problems
    assert (first.code, first.count, first.line, first.lines) == (
        "missing_key",
        9999,
        1,
        [1, 2, 3, 4, 5, 6, 8, 9, 10, 11],
    )
    assert (second.code, second.count, second.lines) == ("no_trainable_text", 1, [7])
    assert [each.line for each in found.problems][:8] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert len(found.problems) == 1001


def test_errors_come_before_warnings_however_many() -> None:
    rows = [*({"text": "the same", "id": number} for number in range(30)), {"text": ""}]
    problems = inspect(map(line, rows)).problems
    assert [(each.code, each.count) for each in problems] == [
        ("no_trainable_text", 1),
        ("unused_key", 30),
        ("duplicate_row", 29),
    ]


def test_that_each_line_is_a_row_is_reported(tmp_path: Path) -> None:
    found = inspect_file(tmp_path, "notes.txt", b"One.\nTwo.\n", None)
    assert [(each.line, each.code) for each in found.problems] == [(1, "text_lines_are_rows")]
    assert (found.report.valid, found.report.num_examples) == (True, 2)
    assert not inspect_file(tmp_path, "rows.jsonl", b'{"text": "One."}\n', RecordFormat.text).problems


def test_parts_and_refusals_are_the_texts_that_a_row_is_compared_by() -> None:
    rows = [
        talk(USER | {"content": "hi\nho"}, ANSWER),
        talk(USER | {"content": [PART, PART | {"text": "ho"}]}, ANSWER | {"content": None, "refusal": "hello"}),
    ]
    assert inspect(map(line, rows)).statistics.duplicates.exact == 1


def test_no_control_character_escapes_a_batch_of_good_rows() -> None:
    rows = [{"text": "good"}, *({"text": f"{number}{chr(number)}x"} for number in (*range(32), 127))]
    found = inspect_lines(map(line, rows)).problems
    harmless = {number + 2 for number in (9, 10, 12, 13)}
    assert {problem.line for problem in found} == set(range(2, 35)) - harmless
    assert {problem.code for problem in found} == {"control_character"}
