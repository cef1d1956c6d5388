"""Makes files of every kind, and reads their rows."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.datasets.formats import is_blank
from worker.inspection.formats.compression import zstd
from worker.inspection.formats.containers import Unreadable, UploadedRows

ROWS = [{"prompt": f"{n}+{n}=", "completion": f'={2 * n}, ü\n"quoted"'} for n in range(20)]
CHAT = [
    {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": '[{"}]'}]} for n in range(5)
]
PACKERS = {"none": bytes, "gzip": gzip.compress, "zstd": zstd.compress}
Open = Callable[..., UploadedRows]


class Dribble(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self.data, self.step, self.at = data, step, 0

    def read(self, size: int = -1, /) -> bytes:
        end = self.at + (min(self.step, size) if size >= 0 else self.step)
        piece, self.at = self.data[self.at : end], min(end, len(self.data))
        return piece


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


def read(rows: UploadedRows) -> list[Any]:
    return [json.loads(line) for line in rows.lines if not is_blank(line)]


def refused(rows: UploadedRows) -> tuple[int, str]:
    """Return the line and the code at which reading fails."""
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
    (bz2.compress(jsonl(ROWS)), "rows.jsonl.bz2", "unsupported_compression"),
    (lzma.compress(jsonl(ROWS)), "rows.jsonl.xz", "unsupported_compression"),
    (gzip.compress(gzip.compress(jsonl(ROWS))), "rows.jsonl.gz", "unsupported_compression"),
    (b"ARROW1\0\0", "rows.arrow", "unsupported_container"),
    (b"rows.jsonl".ljust(257, b"\0") + b"ustar" + b"\0" * 250, "rows.tar", "tar_archive"),
    (ONE_OBJECT, "rows.json", "single_json_object"),
    (b"prompt,prompt,completion\na,b,c\n", "rows.csv", "duplicate_column"),
    (b"What is 1+1?,2\nWhat is 2+2?,4\n", "rows.csv", "missing_header"),
    (b"a\n" * 3, "rows.csv", "missing_header"),
    (b"\n\n", "rows.csv", "missing_header"),
    (b'"prompt', "rows.csv", "missing_header"),
]
