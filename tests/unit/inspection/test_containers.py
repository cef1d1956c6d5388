"""Files as rows: every container in every compression, and flaws that cost a row."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.datasets.formats import RecordFormat, parse_line
from app.domain.datasets.problem import Finding
from tests.unit.inspection.files import CHAT, CONTAINERS, PACKERS, ROWS, Open, csv_of, jsonl, parquet, read, refused
from worker.inspection.formats.containers import Flawed


@pytest.mark.parametrize("step", [1, 1000, 10**9])
@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_in_every_compression(open_rows: Open, container: str, packing: str, step: int) -> None:
    rows = open_rows(PACKERS[packing](CONTAINERS[container]), "a-name-that-says-nothing", step)
    assert (rows.container, rows.compression) == (container, packing)
    assert rows.verbatim == (container == "jsonl" and packing == "none")
    assert rows.why.endswith(".")
    assert read(rows) == ROWS


@pytest.mark.parametrize("packing", PACKERS)
def test_plain_text_is_a_document_a_line(open_rows: Open, packing: str) -> None:
    rows = open_rows(PACKERS[packing]('\ufeffOne.\r\n\r\n  "Two" {}\t\nDrei: ü'.encode()), "rows.txt")
    assert (rows.container, rows.compression, rows.verbatim) == ("text", packing, False)
    lines = list(rows.lines)
    assert lines[1] == b"", "a blank line keeps its number"
    assert [json.loads(line)["text"] for line in lines if line] == ["One.", '  "Two" {}\t', "Drei: ü"]


def test_lines_of_json_lines_are_the_uploads_own(open_rows: Open) -> None:
    data = b'\xef\xbb\xbf{"text": "a"}\r\n\n  {"text": NaN, "text": 1}  \nnonsense\n{"text": "b"}'
    assert list(open_rows(data).lines) == data.split(b"\n")


def test_bytes_decide_and_the_name_only_where_they_leave_a_choice(open_rows: Open) -> None:
    def container(data: bytes, name: str) -> str | None:
        return open_rows(data, name).container

    for name in ("rows.csv", "rows.parquet", "rows.txt", "rows.jsonl.gz"):
        assert container(jsonl(ROWS), name) == "jsonl"
        assert container(json.dumps(ROWS).encode(), name) == "json"
    assert container(csv_of(ROWS), "rows.jsonl") == "csv"
    assert container(b"text\none\n", "rows") == "csv"
    assert container(b"text\none\n", "rows.txt") == "text"
    assert container(b"hello\n", "rows.jsonl") == "jsonl"
    assert container(b"hello\n", "rows.ndjson.zst") == "jsonl"
    assert container(b"[1] A note\n", "notes.txt.gz") == "text"
    assert container(b"[1] A note\n", "notes.txt") == "text"
    assert container(b"", "x") == "jsonl"


@pytest.mark.parametrize("name", ["song", "song.md", "song.text", "dataset"])
def test_text_is_a_dataset_only_where_that_is_declared(open_rows: Open, name: str) -> None:
    data = b"[Verse 1]\nla\n"
    assert refused(open_rows(data, name)) == (1, "unrecognized_file")
    rows = open_rows(data, name, format=RecordFormat.text)
    assert (rows.container, [json.loads(line)["text"] for line in rows.lines]) == ("text", ["[Verse 1]", "la"])
    assert refused(open_rows(data, name, format=RecordFormat.messages)) == (1, "unrecognized_file")


# JSON arrays


@pytest.mark.parametrize("step", [1, 2, 3, 7, 10**6])
def test_elements_keep_their_own_bytes(open_rows: Open, step: int) -> None:
    elements = [
        '{"a": NaN, "a": "\\"}],[{"}',
        '{"b":\n [1, {"c": "\\\\"}]}',
        "12",
        '"x, y"',
        "[[], {}]",
        "null",
        '{"\\u00fc": "ü"}',
    ]
    rows = open_rows((" [ " + " ,\n".join(elements) + " ]\n").encode(), step=step)
    assert [line.decode() for line in rows.lines] == [element.replace("\n", "\r") for element in elements]


def test_an_empty_array_has_no_rows(open_rows: Open) -> None:
    assert list(open_rows(b"[\n]\n").lines) == []


def test_a_comma_too_many_is_a_row_that_is_none(open_rows: Open) -> None:
    lines = list(open_rows(b'[{"text": "a"},,{"text": "b"},]').lines)
    assert [isinstance(line, Flawed) for line in lines] == [False, True, False, True]
    assert lines[1].finding.code == "not_json"  # type: ignore[attr-defined]


def test_a_line_break_within_a_string_stays_a_fault(open_rows: Open) -> None:
    (line,) = open_rows(b'[{"text": "a\nb"}]').lines
    found = parse_line(line)
    assert isinstance(found, Finding)
    assert found.code == "not_json"


def test_a_deep_array_is_cut_without_recursion(open_rows: Open) -> None:
    deep = b"[" * 10_000 + b"]" * 10_000
    lines = list(open_rows(b"[" + deep + b', {"text": ' + deep + b"}]").lines)
    assert len(lines) == 2
    assert [parse_line(line).code for line in lines] == ["nesting_too_deep", "nesting_too_deep"]  # type: ignore[union-attr]


# CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_other_delimiters(open_rows: Open, delimiter: str) -> None:
    assert read(open_rows(csv_of(ROWS, delimiter))) == ROWS


def test_cells_that_hold_json_are_parsed_and_empty_ones_left_out(open_rows: Open) -> None:
    messages = '[{"role": "user",\n "content": "a"}, {"role": "assistant", "content": "b", "weight": 1}]'
    data = csv_of(
        [
            {"": "0", "messages": messages, "tools": "", "note": ""},
            {"": "1", "messages": messages, "tools": "[]", "note": "7"},
        ]
    )
    parsed = json.loads(messages)
    assert read(open_rows(data)) == [{"messages": parsed}, {"messages": parsed, "tools": [], "note": "7"}]
    alpaca = b'instruction,input,output,history\nQ,,,\nQ,I,A,"[[""a"",""b""]]"\n'
    assert read(open_rows(alpaca)) == [
        {"instruction": "Q", "output": ""},
        {"instruction": "Q", "input": "I", "output": "A", "history": [["a", "b"]]},
    ]


def test_a_cell_cannot_add_keys(open_rows: Open) -> None:
    data = csv_of([{"messages": '[]}, {"x": [1]'}, {"messages": '[], "text": "x"'}])
    assert [line.finding.code for line in open_rows(data).lines] == ["invalid_json_cell"] * 2  # type: ignore[attr-defined]


ROW_FLAWS = [
    (b"a", "ragged_row"),
    (b"a,b,c", "ragged_row"),
    (b'{"prompt": "a", "completion": "b", "note": "c"}', "ragged_row"),
    (b'{"text": 1}', "ragged_row"),
    (b'"a"b,c', "invalid_csv_row"),
    (b"a\rb,c", "invalid_csv_row"),
    (b"a\0b,c", "nul_bytes"),
    ("ä,b".encode("latin-1"), "not_utf8"),
]


@pytest.mark.parametrize(("row", "code"), ROW_FLAWS)
def test_a_bad_row_of_csv_is_reported_and_the_others_are_read(open_rows: Open, row: bytes, code: str) -> None:
    before, flawed, after = open_rows(b"prompt,completion\nq,a\n" + row + b"\nr,b\n", "rows.csv").lines
    assert (json.loads(before), json.loads(after)) == (
        {"prompt": "q", "completion": "a"},
        {"prompt": "r", "completion": "b"},
    )
    assert isinstance(flawed, Flawed)
    assert flawed.finding.code == code
    assert isinstance(parse_line(flawed), Finding), "a reader that knows nothing of flaws also refuses it"


def test_python_lists_are_no_json(open_rows: Open) -> None:
    (line,) = open_rows(b"messages\n\"[{'role': 'user', 'content': 'a'}]\"\n").lines
    assert isinstance(line, Flawed)
    assert line.finding.code == "invalid_json_cell"
    assert "double quotes" in line.finding.message


# Parquet


def test_nested_values_become_json_and_nulls_are_left_out(open_rows: Open) -> None:
    tools = {"tools": [{"a": [1, None]}]}
    data = parquet([{**CHAT[0], "tools": None}, {"messages": [{"role": "user", "content": None}], **tools}])
    assert read(open_rows(data)) == [CHAT[0], {"messages": [{"role": "user"}], **tools}]


def test_values_that_json_does_not_know(open_rows: Open) -> None:
    table = pa.table(
        {
            "text": pa.array([b"as bytes", b"\xff"], pa.binary()),
            "at": pa.array([0, 1], pa.timestamp("s")),
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            "nan": [float("nan"), 1.5],
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    first, second = open_rows(sink.getvalue()).lines
    assert first == b'{"text": "as bytes", "at": "1970-01-01 00:00:00", "map": {"k": 1}, "nan": NaN}'
    assert isinstance(second, Flawed)
    assert second.finding.code == "not_utf8"


def hostile_footers() -> Iterator[tuple[bytes, str]]:
    good = parquet(ROWS)
    length = int.from_bytes(good[-8:-4], "little")
    yield good[:-100], "truncated_file"
    yield b"PAR1", "truncated_file"
    yield b"PAR1" * 2, "truncated_file"
    yield good[:-8] + (2**32 - 1).to_bytes(4, "little") + b"PAR1", "corrupt_parquet"
    yield good[:-8] + (len(good) - 11).to_bytes(4, "little") + b"PAR1", "corrupt_parquet"
    yield good[:-8] + (2**30).to_bytes(4, "little") + b"PAR1", "corrupt_parquet"
    yield good[: -8 - length] + os.urandom(length) + good[-8:], "corrupt_parquet"
    yield (
        good[: -8 - length] + b"\x19\xfc\xff\xff\xff\xff\x07" * (length // 7) + b"\0" * (length % 7) + good[-8:],
        "corrupt_parquet",
    )
    yield b"PAR1" + b"\0" * 100 + b"PAR1", "corrupt_parquet"
    yield parquet([{}]), "corrupt_parquet"


@pytest.mark.parametrize(("data", "code"), list(hostile_footers()))
def test_hostile_footers(open_rows: Open, data: bytes, code: str, tmp_path: Path) -> None:
    assert refused(open_rows(data)) == (1, code)
    assert list(tmp_path.iterdir()) == [], "what was spooled is gone"


def test_damaged_pages(open_rows: Open) -> None:
    good = bytearray(parquet([{"text": os.urandom(50).hex()} for _ in range(1000)], compression="snappy"))
    good[200:4000] = os.urandom(3800)
    assert refused(open_rows(bytes(good)))[1] in ("corrupt_parquet", "row_group_too_large")


def test_a_row_group_that_is_too_large(open_rows: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.inspection.formats import parquet_rows

    monkeypatch.setattr(parquet_rows, "MAX_ROW_GROUP_BYTES", 1000)
    line, code = refused(open_rows(parquet([{"text": os.urandom(30).hex()} for _ in range(300)], row_group_size=30)))
    assert (line, code) == (1, "row_group_too_large")


def test_a_parquet_bomb(open_rows: Open) -> None:
    """Three million rows of nothing in a few hundred bytes; and one long text three hundred thousand times."""
    nothing = pa.table({"text": pa.nulls(3_000_000, pa.string())})
    same = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 300_000), ["x" * 1000])})
    for table in (nothing, same):
        sink = io.BytesIO()
        pq.write_table(table, sink)
        assert len(sink.getvalue()) < 100_000
        assert refused(open_rows(sink.getvalue()))[1] == "decompressed_too_large"


# What is no dataset
