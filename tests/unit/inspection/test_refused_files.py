"""Files that are no dataset, and those whose reading stops."""

import io
import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.datasets.container import CONTAINER_CODES
from app.domain.datasets.formats import MAX_LINE_BYTES
from tests.unit.inspection.files import NO_DATASET, PACKERS, ROWS, Open, jsonl, read, refused
from worker.inspection.formats import compression
from worker.inspection.formats.compression import zstd


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
    (b'[{"text": "a"}]\n{"text": "b"}\n', 2, "trailing_data"),
    (b'[{"text": "a"}] [{"text": "b"}]', 2, "trailing_data"),
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
    assert code == "truncated_file"
    assert 5_000 < line < 10_500, "what came whole was read"
    assert refused(open_rows(packed[:3] if packing == "gzip" else packed[:5]))[1] == "truncated_file"
    checked = {zstd.CompressionParameter.checksum_flag: 1}
    packed = packed if packing == "gzip" else zstd.compress(jsonl(rows), options=checked)
    damaged = packed[: len(packed) // 2] + os.urandom(200) + packed[len(packed) // 2 + 200 :]
    assert refused(open_rows(damaged))[1] == "corrupt_compression"
    assert refused(open_rows(packed + b"something else"))[1] in ("corrupt_compression", "truncated_file")
    assert len(read(open_rows(packed + PACKERS[packing](jsonl(rows[:7]))))) == 20_007, "several members are one file"


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_bombs_are_recognized_by_their_ratio_and_by_their_size(
    open_rows: Open, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = b'{"text": "' + b"a" * 2**20 + b'"}\n'
    bomb = PACKERS[packing](line * 100)
    assert len(bomb) < 2**20
    number, code = refused(open_rows(bomb))
    assert code == "decompressed_too_large"
    assert 60 < number < 70
    monkeypatch.setattr(compression, "MAX_UNPACKED_BYTES", 1000)
    assert refused(open_rows(PACKERS[packing](os.urandom(1000).hex().encode())))[1] == "decompressed_too_large"


def test_a_zstd_window_without_bounds_is_refused(open_rows: Open) -> None:
    options = {zstd.CompressionParameter.window_log: 30, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    assert refused(open_rows(compressor.compress(jsonl(ROWS)) + compressor.flush()))[1] == "corrupt_compression"


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
    first, long, last = open_rows(long_line(container), "rows.txt").lines
    assert (json.loads(first), json.loads(last)) == ({"text": "a"}, {"text": "b"})
    assert len(long) == MAX_LINE_BYTES + 1


def test_a_huge_cell_ends_the_reading(open_rows: Open) -> None:
    text = b"x" * (MAX_LINE_BYTES + 1)
    assert refused(open_rows(b"text,note\na,b\n" + text + b",c\n")) == (2, "line_too_long")
    assert refused(open_rows(b'text,note\na,b\n"' + b"x\n" * (MAX_LINE_BYTES // 2 + 1))) == (2, "unclosed_quote")


def test_the_page_lists_every_code() -> None:
    page = (Path(__file__).parents[3] / "docs/datasets.md").read_text().partition("### When a file cannot be read")[2]
    assert set(re.findall(r"`([a-z0-9_]+)`", page.partition("\n## ")[0])) >= CONTAINER_CODES.keys()
