"""Checks record formats: what is accepted, what is refused with which code, and that hostile content breaks nothing."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.domain.datasets.conversation import to_messages
from app.domain.datasets.formats import KEYS, MAX_DEPTH, MAX_LINE_BYTES, RecordFormat, find_format, is_blank, parse_line
from app.domain.datasets.lines import split_lines
from app.domain.datasets.problem import Finding
from app.domain.datasets.report import SHOWN_PROBLEMS
from app.domain.datasets.validation import check_record
from tests.fixtures.inspection import inspect, line

NO_DEADLINE = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CONVERSATIONS = [RecordFormat.messages, RecordFormat.alpaca, RecordFormat.sharegpt]


def user(content: str = "hi") -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str | None = "hello", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def tool(id: str | None = "c1") -> dict[str, Any]:
    return {"role": "tool", "content": "4", "tool_call_id": id}


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"terms": [2, 2]}'}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}

GOOD: list[tuple[RecordFormat, dict[str, Any]]] = [
    (RecordFormat.messages, {"messages": [user(), assistant()]}),
    (
        RecordFormat.messages,
        {"messages": [{"role": "system", "content": ""}, user(), assistant(weight=0), user(), assistant()]},
    ),
    (RecordFormat.messages, {"messages": [user(), assistant(None, tool_calls=[CALL])]}),
    (
        RecordFormat.messages,
        {"messages": [user(), assistant(None, tool_calls=[CALL]), tool(), assistant("It is 4.")], "tools": [TOOL]},
    ),
    (RecordFormat.messages, {"messages": [user(), assistant(name=None)], "tools": None}),
    (RecordFormat.prompt_completion, {"prompt": "", "completion": "4"}),
    (RecordFormat.alpaca, {"instruction": "add", "input": "2 2", "output": "4"}),
    (RecordFormat.alpaca, {"instruction": "add", "output": "4", "system": None, "history": [["a", "b"]]}),
    (RecordFormat.sharegpt, {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}),
    (RecordFormat.text, {"text": "Once upon a time."}),
]

BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": []}, "/messages", "wrong_type"),
    ({"messages": "hi"}, "/messages", "wrong_type"),
    ({"messages": [user()]}, "/messages", "no_trainable_text"),
    ({"messages": [user(), assistant("  ")]}, "/messages", "no_trainable_text"),
    ({"messages": [user(), assistant(weight=0)]}, "/messages", "no_trainable_text"),
    ({"messages": [7, assistant()]}, "/messages/0", "wrong_type"),
    ({"messages": [{"role": [], "content": "x"}, assistant()]}, "/messages/0/role", "unknown_role"),
    ({"messages": [{"role": "robot", "content": "x"}, assistant()]}, "/messages/0/role", "unknown_role"),
    ({"messages": [user(), assistant(weight=True)]}, "/messages/1/weight", "invalid_weight"),
    ({"messages": [user(), assistant(weight=2)]}, "/messages/1/weight", "invalid_weight"),
    ({"messages": [{"role": "user", "content": {"type": "text"}}, assistant()]}, "/messages/0/content", "wrong_type"),
    ({"messages": [{"role": "user"}, assistant()]}, "/messages/0/content", "wrong_type"),
    ({"messages": [user(), assistant(tool_calls="add")]}, "/messages/1/tool_calls", "wrong_type"),
    ({"messages": [user(), assistant(name=5)]}, "/messages/1/name", "wrong_type"),
    ({"prompt": "2+2", "completion": 4}, "/completion", "wrong_type"),
    ({"prompt": None, "completion": "4"}, "/prompt", "wrong_type"),
    ({"prompt": "2+2", "completion": " \n"}, "/completion", "no_trainable_text"),
    ({"instruction": "add", "output": "4", "input": 2}, "/input", "wrong_type"),
    ({"instruction": "add", "output": "4", "history": [["a"]]}, "/history", "wrong_type"),
    ({"instruction": "add", "output": "4", "history": 0}, "/history", "wrong_type"),
    ({"conversations": [{"from": "human", "value": "hi"}]}, "/conversations", "no_trainable_text"),
    ({"conversations": [{"from": {}, "value": "x"}]}, "/conversations/0/from", "unknown_role"),
    ({"conversations": [{"from": "gpt"}]}, "/conversations/0", "wrong_type"),
    ({"text": ""}, "/text", "no_trainable_text"),
    ({"content": "x"}, "", "unknown_format"),
    ({}, "", "unknown_format"),
]


@pytest.mark.parametrize(("format", "record"), GOOD)
def test_valid_records_are_accepted(format: RecordFormat, record: dict[str, Any]) -> None:
    report = inspect([line(record)])
    assert (report.format, report.num_examples, report.problems) == (format, 1, [])
    if format in CONVERSATIONS:
        assert to_messages(record, format)[-1].content is not None or "tool_calls" in record["messages"][-1]


@pytest.mark.parametrize(("record", "pointer", "code"), BAD)
def test_invalid_records_are_refused(record: dict[str, Any], pointer: str, code: str) -> None:
    report = inspect([b"", line(record)])
    assert (pointer, code) in [(problem.pointer, problem.code) for problem in report.problems]
    assert {problem.line for problem in report.problems} == {2}


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{'text': 'x'}", "not_json"),
        (b'{"text": "x"', "not_json"),
        (b'{"text": "a\x00b"}', "nul_bytes"),
        (b'{"text": "x"} {"text": "y"}', "not_json"),
        (b'{"text": NaN}', "invalid_number"),
        (b'{"text": -Infinity}', "invalid_number"),
        (b'{"n": ' + b"9" * 5000 + b"}", "invalid_number"),
        (b'["text"]', "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"text": "\xff"}', "not_utf8"),
        (b'{"text": "\xed\xa0\x80"}', "not_utf8"),
        (b'{"text": "\\ud83d"}', "lone_surrogate"),
        (b'{"\\uDE00": "x"}', "lone_surrogate"),
        (b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "nesting_too_deep"),
        (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "nesting_too_deep"),
        (b'{"text": "' + b"x" * MAX_LINE_BYTES + b'"}', "line_too_long"),
    ],
)
def test_lines_without_a_record_are_refused(raw: bytes, code: str) -> None:
    found = parse_line(raw)
    assert isinstance(found, Finding)
    assert found.code == code
    assert len(found.message) < 300


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'\xef\xbb\xbf{"text": "a"}\r', "a"),
        (b'{"text": "\\ud83d\\ude00"}', "\U0001f600"),
        (b'{"text": "\\u0000"}', "\0"),
        (b'{"text": "a \\\\ud800 b"}', "a \\ud800 b"),
        (b'{"text": "x", "a": ' + b"[" * 99 + b"]" * 99 + b"}", "x"),
    ],
)
def test_odd_but_valid_lines_are_accepted(raw: bytes, value: str) -> None:
    record = parse_line(raw)
    assert isinstance(record, dict)
    assert record["text"] == value


def test_line_numbers_are_those_of_an_editor() -> None:
    report = inspect(split_lines([b'{"text": "a"}\r\n\r\n\xef\xbb\xbf\n{"text": 1}\n\n{"text": "b"}\n']))
    assert [(problem.line, problem.code) for problem in report.problems] == [
        (4, "wrong_type"),
        (1, "crlf_line_endings"),
    ]
    assert report.num_examples == 3


def test_a_file_has_one_format() -> None:
    report = inspect([line({"text": "a"}), line({"prompt": "a", "completion": "b"}), line({"text": "c"})])
    assert report.format == RecordFormat.text
    assert [(problem.line, problem.code) for problem in report.problems] == [(2, "mixed_formats")]


def test_counts_include_problems_that_are_not_kept() -> None:
    report = inspect(line({"text": ""}) for _ in range(1234))
    assert [(each.count, len(each.lines)) for each in report.problems] == [(1234, 10)]
    assert report.problem_counts == {"no_trainable_text": 1234}
    assert len(inspect(line({"messages": [{"role": f"r{n}"}]}) for n in range(99)).problems) == SHOWN_PROBLEMS
    assert report.num_bad_rows == report.statistics.num_empty_rows == 1234
    assert not report.valid


def test_a_row_counts_at_most_a_hundred_problems() -> None:
    rows = [line({"messages": [0] * 5000}), line({"messages": [user()]})]
    assert inspect(rows).problem_counts == {"wrong_type": 100, "no_trainable_text": 1}


@pytest.mark.parametrize("lines", [[], [b"", b"  \r"], [b"\xef\xbb\xbf"]])
def test_a_file_without_rows_is_reported(lines: list[bytes]) -> None:
    assert inspect(lines).problem_counts == {"no_rows": 1}


def test_an_endless_line_is_truncated() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 2**20

    lines = split_lines((*islice(endless(), 40), b"\n", b'{"text": "a"}'))
    long, after = lines
    assert len(long) == MAX_LINE_BYTES + 1
    assert after == b'{"text": "a"}'
    assert inspect([long]).problem_counts == {"line_too_long": 1}


@NO_DEADLINE
@given(st.lists(st.binary(max_size=20)))
@example([b"a\n", b"\n", b"b"])
def test_chunks_are_split_into_the_lines_of_the_file(chunks: list[bytes]) -> None:
    whole = b"".join(chunks).split(b"\n")
    assert list(split_lines(chunks)) == (whole if whole[-1] else whole[:-1])


ODD = st.sampled_from(
    [None, 0, 1, 2, True, 1.0, -1e300, "", "x", "\ud800", [], {}, [{}], [[]], [["a", "b"]], {"a": [1]}]
)
WORD = st.sampled_from(["x", "y", ""])
MORE = st.dictionaries(
    st.sampled_from(["weight", "name", "tool_calls", "tool_call_id", "from", "role"]), ODD, max_size=1
)
TURN = st.builds(
    lambda role, content, more: {"role": role, "content": content} | more,
    st.sampled_from(["user", "assistant", "tool"]),
    WORD | ODD,
    MORE,
)
SHAREGPT_TURN = st.builds(
    lambda by, value, more: {"from": by, "value": value} | more, st.sampled_from(["human", "gpt"]), WORD, MORE
)
RECORD = (
    st.fixed_dictionaries({"messages": st.lists(TURN, max_size=3) | ODD})
    | st.fixed_dictionaries({"conversations": st.lists(SHAREGPT_TURN, max_size=3) | ODD})
    | st.fixed_dictionaries(
        {"instruction": WORD, "output": WORD | ODD}, optional={"history": ODD, "input": ODD, "system": ODD}
    )
    | st.dictionaries(
        st.sampled_from(sorted(frozenset().union(*(keys for sets in KEYS.values() for keys in sets)))), ODD, max_size=4
    )
)


@NO_DEADLINE
@given(RECORD)
def test_a_record_that_passes_the_check_can_be_rendered(record: dict[str, Any]) -> None:
    format = find_format(record)
    if format not in CONVERSATIONS or any(finding.is_error for finding in check_record(record, format)):
        return
    messages = to_messages(record, format)
    assert any(message.role == "assistant" and message.weight for message in messages)


@NO_DEADLINE
@given(st.lists(st.binary(max_size=40) | ODD.map(line) | RECORD.map(line), max_size=5))
@example([b'{"text": "\\ud800"}', b"\xff\xfe\x00", b"[" * 5000])
def test_no_content_breaks_an_inspection(lines: list[bytes]) -> None:
    report = inspect(lines)
    assert report.num_examples == sum(not is_blank(each) for each in lines)
    stored = report.model_dump_json()
    assert "\\u0000" not in stored  # PostgreSQL's jsonb would refuse it
