"""Writes rows as files in every container that datasets come in, and packs them."""

import csv
import gzip
import io
import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from worker.inspection.formats.compression import zstd

Row = dict[str, Any]
SPELLINGS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    *[lambda line: line] * 6,
    lambda line: line.replace(b'": ', b'":'),
    lambda line: line.replace(b'": ', b'" : '),
    lambda line: line.replace(b'": ', b'"\t:'),
    lambda line: b" " + line + b" ",
    lambda line: line.replace(b"e", b"\\u0065", 1),
)


def as_lines(rng: random.Random, rows: Sequence[Row]) -> bytes:
    lines = [json.dumps(row, ensure_ascii=rng.random() < 0.3).encode() for row in rows]
    lines = [rng.choice(SPELLINGS)(line) for line in lines]
    return rng.choice((b"\n", b"\n", b"\n", b"\r\n", b"\n\n")).join(lines)


def as_array(rng: random.Random, rows: Sequence[Row]) -> bytes:
    return json.dumps(rows, ensure_ascii=False, indent=rng.choice((None, None, 1))).encode()


def as_csv(rng: random.Random, rows: Sequence[Row]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=rng.choice(",,,;\t"), lineterminator=rng.choice(("\n", "\r\n")))
    names = list(dict.fromkeys(key for row in rows for key in row))
    writer.writerow(names)
    writer.writerows([cell(row[name]) if name in row else "" for name in names] for row in rows)
    return file.getvalue().encode()


def as_parquet(rng: random.Random, rows: Sequence[Row]) -> bytes:
    try:
        table = pa.Table.from_pylist(list(rows))
    except (pa.ArrowException, OverflowError, TypeError, ValueError):  # a column cannot hold values of several types
        table = pa.Table.from_pylist([{key: cell(value) for key, value in row.items()} for row in rows])
    file = io.BytesIO()
    try:
        pq.write_table(table, file, row_group_size=rng.choice((1, 3, 100)), compression=rng.choice(("snappy", "none")))
    except pa.ArrowException:  # for example a struct without fields
        return b"PAR1" + file.getvalue()
    return file.getvalue()


def as_text(rng: random.Random, rows: Sequence[Row]) -> bytes:
    return rng.choice(("\n", "\n\n", "\r\n")).join(cell(value) for row in rows for value in row.values()).encode()


def cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


CONTAINERS: Final[dict[str, Callable[[random.Random, Sequence[Row]], bytes]]] = {
    "jsonl": as_lines,
    "json": as_array,
    "csv": as_csv,
    "parquet": as_parquet,
    "txt": as_text,
}
PACKINGS: Final[dict[str, Callable[[bytes], bytes]]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd.compress}
WRAPPINGS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    *[lambda data: data] * 40,
    lambda data: gzip.compress(data)[:-9],
    lambda data: zstd.compress(data)[:-3],
    lambda data: b"[" + data.replace(b"\n", b",\n") + b"]",
    lambda data: data.decode(errors="replace").encode("utf-16"),
    lambda data: b"<!doctype html><html>" + data,
    lambda data: b"PAR1" + data + struct.pack("<I", len(data)) + b"PAR1",
)
"""Functions that put bytes around a file that do not belong there; most of them put none."""
