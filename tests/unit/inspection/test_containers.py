"""Files as rows: every container and compression, and whatever is no dataset."""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.container import CONTAINER_CODES
from app.domain.record import MAX_LINE_BYTES, Finding, is_blank, parse_line
from worker.inspection import compression
from worker.inspection.compression import zstd
from worker.inspection.containers import Flawed, Rows, Unreadable, read_rows

ROWS = [{"prompt": f"{n}+{n}=", "completion": f'={2 * n}, ü\n"quoted"'} for n in range(20)]
CHAT = [
    {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": '[{"}]'}]} for n in range(5)
]
PACKERS = {"none": bytes, "gzip": gzip.compress, "zstd": zstd.compress}


class Dribble(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self.data, self.step, self.at = data, step, 0

    def read(self, size: int = -1, /) -> bytes:
        end = self.at + (min(self.step, size) if size >= 0 else self.step)
        piece, self.at = self.data[self.at : end], min(end, len(self.data))
        return piece


@pytest.fixture
def open_rows(tmp_path: Path) -> Callable[..., Rows]:
    def open_rows(data: bytes, name: str = "rows", step: int = 10**9) -> Rows:
        return read_rows(Dribble(data, step), name, tmp_path)  # type: ignore[arg-type]

    return open_rows


Open = Callable[..., Rows]


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def csv_of(rows: list[dict[str, str]], delimiter: str = ",") -> bytes:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    lines = [list(rows[0]), *([*row.values()] for row in rows)]
    return "".join(delimiter.join(map(cell, line)) + "\r\n" for line in lines).encode()


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, **options)
    return sink.getvalue()


def read(rows: Rows) -> list[Any]:
    return [json.loads(line) for line in rows.lines if not is_blank(line)]


def refused(rows: Rows) -> tuple[int, str]:
    """Where and by which code the reading ends."""
    with pytest.raises(Unreadable) as caught:
        list(rows.lines)
    assert caught.value.finding.message.endswith(".")
    assert len(caught.value.finding.message) < 500
    return caught.value.line, caught.value.finding.code


CONTAINERS = {
    "jsonl": jsonl(ROWS),
    "json": json.dumps(ROWS).encode(),
    "csv": csv_of(ROWS),
    "parquet": parquet(ROWS, row_group_size=7),
}


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
    rows = open_rows(PACKERS[packing]('\ufeffOne.\r\n\r\n  "Two" {}\t\nDrei: ü'.encode()))
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
    assert container(b"[Verse 1]\nla\n", "song") == "text"
    assert container(b"[1] A note\n", "notes.txt") == "text"
    assert container(b"", "x") == "jsonl"


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
    assert [parse_line(line).code for line in lines] == ["too_deep", "too_deep"]  # type: ignore[union-attr]


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
    assert [line.finding.code for line in open_rows(data).lines] == ["cell_not_json"] * 2  # type: ignore[attr-defined]


ROW_FLAWS = [
    (b"a", "ragged_row"),
    (b"a,b,c", "ragged_row"),
    (b'{"prompt": "a", "completion": "b", "note": "c"}', "ragged_row"),
    (b'{"text": 1}', "ragged_row"),
    (b'"a"b,c', "bad_csv_row"),
    (b"a\rb,c", "bad_csv_row"),
    (b"a\0b,c", "nul_bytes"),
    ("ä,b".encode("latin-1"), "not_utf8"),
]


@pytest.mark.parametrize(("row", "code"), ROW_FLAWS)
def test_a_bad_row_of_csv_is_told_and_the_others_are_read(open_rows: Open, row: bytes, code: str) -> None:
    before, flawed, after = open_rows(b"prompt,completion\nq,a\n" + row + b"\nr,b\n", "rows.csv").lines
    assert (json.loads(before), json.loads(after)) == (
        {"prompt": "q", "completion": "a"},
        {"prompt": "r", "completion": "b"},
    )
    assert isinstance(flawed, Flawed)
    assert flawed.finding.code == code
    assert isinstance(parse_line(flawed), Finding), "also whoever knows nothing of flaws refuses it"


def test_python_lists_are_no_json(open_rows: Open) -> None:
    (line,) = open_rows(b"messages\n\"[{'role': 'user', 'content': 'a'}]\"\n").lines
    assert isinstance(line, Flawed)
    assert line.finding.code == "cell_not_json"
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
    yield good[:-100], "cut_off"
    yield b"PAR1", "cut_off"
    yield b"PAR1" * 2, "cut_off"
    yield good[:-8] + (2**32 - 1).to_bytes(4, "little") + b"PAR1", "damaged_parquet"
    yield good[:-8] + (len(good) - 11).to_bytes(4, "little") + b"PAR1", "damaged_parquet"
    yield good[:-8] + (2**30).to_bytes(4, "little") + b"PAR1", "damaged_parquet"
    yield good[: -8 - length] + os.urandom(length) + good[-8:], "damaged_parquet"
    yield (
        good[: -8 - length] + b"\x19\xfc\xff\xff\xff\xff\x07" * (length // 7) + b"\0" * (length % 7) + good[-8:],
        "damaged_parquet",
    )
    yield b"PAR1" + b"\0" * 100 + b"PAR1", "damaged_parquet"
    yield parquet([{}]), "damaged_parquet"


@pytest.mark.parametrize(("data", "code"), list(hostile_footers()))
def test_hostile_footers(open_rows: Open, data: bytes, code: str, tmp_path: Path) -> None:
    assert refused(open_rows(data)) == (1, code)
    assert list(tmp_path.iterdir()) == [], "what was spooled is gone"


def test_damaged_pages(open_rows: Open) -> None:
    good = bytearray(parquet([{"text": os.urandom(50).hex()} for _ in range(1000)], compression="snappy"))
    good[200:4000] = os.urandom(3800)
    assert refused(open_rows(bytes(good)))[1] in ("damaged_parquet", "row_group_too_large")


def test_a_row_group_that_is_too_large(open_rows: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.inspection import parquet_rows

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
        assert refused(open_rows(sink.getvalue()))[1] == "unpacks_too_large"


# What is no dataset


def workbook() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return sink.getvalue()


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("rows.jsonl", jsonl(ROWS))
    return sink.getvalue()


ONE_OBJECT = json.dumps({"data": ROWS}, indent=2).encode()
NO_DATASET = [
    (zipped(), "rows.zip", "zip_archive"),
    (workbook(), "rows.csv", "spreadsheet"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 100, "rows.xls", "spreadsheet"),
    (b"%PDF-1.7\n", "rows.pdf", "pdf_document"),
    (b"\n<!DOCTYPE html>\n<html>", "rows.jsonl", "html_page"),
    (b"<html><body>Log in</body></html>", "rows.txt", "html_page"),
    (b'<?xml version="1.0"?>', "rows", "html_page"),
    (b"<!-- saved from url=(0014)about:internet -->\n<!-- -->\n<HTML><p>Log in", "rows", "html_page"),
    (jsonl(ROWS).decode().encode("utf-16"), "rows.jsonl", "not_utf8"),
    (jsonl(ROWS).decode().encode("utf-16-le"), "rows.jsonl", "not_utf8"),
    (csv_of(ROWS).decode().encode("utf-16-be"), "rows.csv", "not_utf8"),
    (b"\0" * 5000, "rows.jsonl", "nul_bytes"),
    (b"\x7fELF\x02\x01\x01" + b"\0" * 9, "rows", "nul_bytes"),
    (bz2.compress(jsonl(ROWS)), "rows.jsonl.bz2", "other_compression"),
    (lzma.compress(jsonl(ROWS)), "rows.jsonl.xz", "other_compression"),
    (gzip.compress(gzip.compress(jsonl(ROWS))), "rows.jsonl.gz", "other_compression"),
    (b"ARROW1\0\0", "rows.arrow", "other_container"),
    (b"rows.jsonl".ljust(257, b"\0") + b"ustar" + b"\0" * 250, "rows.tar", "tar_archive"),
    (ONE_OBJECT, "rows.json", "json_object"),
    (b"prompt,prompt,completion\na,b,c\n", "rows.csv", "duplicate_column"),
    (b"What is 1+1?,2\nWhat is 2+2?,4\n", "rows.csv", "no_header"),
    (b"a\n" * 3, "rows.csv", "no_header"),
    (b"\n\n", "rows.csv", "no_header"),
    (b'"prompt', "rows.csv", "no_header"),
]


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize(("data", "name", "code"), NO_DATASET)
def test_what_is_no_dataset_is_refused_at_its_first_line(
    open_rows: Open, data: bytes, name: str, code: str, packing: str
) -> None:
    rows = open_rows(PACKERS[packing](data), name)
    assert rows.compression in (packing, "gzip")
    assert rows.container in ("unknown", "csv", "json")
    assert refused(rows) == (1, code)


def test_a_file_of_nothing_has_no_rows(open_rows: Open) -> None:
    for packing in PACKERS.values():
        for data in (b"", b"\xef\xbb\xbf", b"\n \n"):
            assert read(open_rows(packing(data))) == []
    assert read(open_rows(b"prompt,completion\n")) == []
    assert read(open_rows(parquet_of_no_rows())) == []


def parquet_of_no_rows() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), sink)
    return sink.getvalue()


STOPS = [
    (b'[{"text": "a"}, {"text": "b"}, {"te', 3, "unterminated_array"),
    (b'[{"text": "a"}, {"text": "b\\', 2, "unterminated_array"),
    (b'[{"text": "a"}]\n{"text": "b"}\n', 2, "text_after_array"),
    (b'[{"text": "a"}] [{"text": "b"}]', 2, "text_after_array"),
    (b'[{"text": "a"}, {"text": "b"}}', 2, "not_json"),
    (b'text,note\na,b\nc,"d\n' + b"e\n" * 10, 2, "unclosed_quote"),
]


@pytest.mark.parametrize("step", [1, 10**6])
@pytest.mark.parametrize(("data", "line", "code"), STOPS)
def test_where_a_reading_stops(open_rows: Open, data: bytes, line: int, code: str, step: int) -> None:
    assert refused(open_rows(data, step=step)) == (line, code)


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_compressed_data_that_is_cut_off_or_damaged(open_rows: Open, packing: str) -> None:
    rows = [{"text": os.urandom(100).hex()} for _ in range(20_000)]
    packed = PACKERS[packing](jsonl(rows))
    line, code = refused(open_rows(packed[: len(packed) // 2]))
    assert code == "cut_off"
    assert 5_000 < line < 10_500, "what came whole was read"
    assert refused(open_rows(packed[:3] if packing == "gzip" else packed[:5]))[1] == "cut_off"
    checked = {zstd.CompressionParameter.checksum_flag: 1}
    packed = packed if packing == "gzip" else zstd.compress(jsonl(rows), options=checked)
    damaged = packed[: len(packed) // 2] + os.urandom(200) + packed[len(packed) // 2 + 200 :]
    assert refused(open_rows(damaged))[1] == "damaged_compression"
    assert refused(open_rows(packed + b"something else"))[1] in ("damaged_compression", "cut_off")
    assert len(read(open_rows(packed + PACKERS[packing](jsonl(rows[:7]))))) == 20_007, "several members are one file"


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_bombs_are_told_by_their_ratio_and_by_their_size(
    open_rows: Open, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = b'{"text": "' + b"a" * 2**20 + b'"}\n'
    bomb = PACKERS[packing](line * 100)
    assert len(bomb) < 2**20
    number, code = refused(open_rows(bomb))
    assert code == "unpacks_too_large"
    assert 60 < number < 70
    monkeypatch.setattr(compression, "MAX_UNPACKED_BYTES", 1000)
    assert refused(open_rows(PACKERS[packing](os.urandom(1000).hex().encode())))[1] == "unpacks_too_large"


def test_a_zstd_window_without_bounds_is_refused(open_rows: Open) -> None:
    options = {zstd.CompressionParameter.window_log: 30, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    assert refused(open_rows(compressor.compress(jsonl(ROWS)) + compressor.flush()))[1] == "damaged_compression"


# Long lines


def long_line(container: str) -> bytes:
    text = b"x" * 200_000_000
    return {
        "jsonl": b'{"text": "a"}\n{"text": "' + text + b'"}\n{"text": "b"}\n',
        "json": b'[{"text": "a"}, {"text": "' + text + b'"}, {"text": "b"}]',
        "text": b"a\n" + text + b"\nb\n",
    }[container]


@pytest.mark.parametrize("container", ["jsonl", "json", "text"])
def test_a_line_of_200_megabytes_is_cut_and_the_next_is_read(open_rows: Open, container: str) -> None:
    first, long, last = open_rows(long_line(container)).lines
    assert (json.loads(first), json.loads(last)) == ({"text": "a"}, {"text": "b"})
    assert len(long) == MAX_LINE_BYTES + 1


def test_a_huge_cell_ends_the_reading(open_rows: Open) -> None:
    text = b"x" * (MAX_LINE_BYTES + 1)
    assert refused(open_rows(b"text,note\na,b\n" + text + b",c\n")) == (2, "line_too_long")
    assert refused(open_rows(b'text,note\na,b\n"' + b"x\n" * (MAX_LINE_BYTES // 2 + 1))) == (2, "unclosed_quote")


def test_the_page_tells_every_code() -> None:
    page = (Path(__file__).parents[3] / "docs/datasets.md").read_text().partition("### When a file cannot be read")[2]
    assert set(re.findall(r"`([a-z0-9_]+)`", page.partition("\n## ")[0])) >= CONTAINER_CODES.keys()
