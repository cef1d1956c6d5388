"""Reads Parquet by row group, in batches. Imported on demand, because pyarrow takes half a second and 60 MB."""

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet

from app.domain.datasets.formats import MAX_LINE_BYTES
from worker.inspection.errors import Broken, Flawed
from worker.inspection.formats.compression import check_growth
from worker.inspection.formats.source import CHUNK_BYTES, Source

MAGIC: Final = b"PAR1"
MAX_FOOTER_BYTES: Final = 64 * 2**20
MAX_ROW_GROUP_BYTES: Final = 4 * 2**30
"""Limits a decompressed row group. A writer that puts a million rows of chat into a row group stays below it."""
MAX_DEPTH: Final = 100
BATCH_BYTES: Final = 4 * 2**20
MAX_BATCH_ROWS: Final = 1000
LEAST_ROW_BYTES: Final = 64
"""Each row counts at least this much, because a few bytes can encode a billion empty rows."""


def read_parquet(source: Source, scratch: Path) -> Iterator[bytes]:
    """Yield each row as a line. Nulls are omitted, except in lists."""
    path = scratch / "rows.parquet"
    with path.open("wb") as spool:
        for chunk in source.chunks():
            spool.write(chunk)
    try:
        with path.open("rb") as file:
            yield from _rows(file, _checked_size(file))
    finally:
        path.unlink()


def _checked_size(file: Any) -> int:
    """Return the file's size. Its last eight bytes must be the footer's length and the magic."""
    size: int = file.seek(0, 2)
    file.seek(max(size - 8, 0))
    length, magic = struct.unpack("<I4s", file.read(8).rjust(8))
    if magic != MAGIC or size < 12:
        raise Broken("truncated_file", "The Parquet file is truncated. Send the complete file.")
    if length > min(size - 12, MAX_FOOTER_BYTES):
        raise Broken(
            "corrupt_parquet", f"The footer claims {length:,} of the file's {size:,} bytes. Write the file again."
        )
    return size


@contextmanager
def _convert_errors() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise _too_large("needs too much memory") from error
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        message = f"The file is not valid Parquet ({str(error)[:200]}). Write it again."
        raise Broken("corrupt_parquet", message) from error


def _too_large(what: str) -> Broken:
    message = f"A row group of the Parquet file {what}. Write fewer rows per group (row_group_size=10000)."
    return Broken("row_group_too_large", message)


def _rows(file: Any, size: int) -> Iterator[bytes]:
    unpacked = 0
    for line in _lines(_open(file)):
        unpacked += len(line) + LEAST_ROW_BYTES
        check_growth(unpacked, size)
        yield line


def _open(file: Any) -> Any:
    with _convert_errors():
        # Columns are read through small buffers, and never a whole column of a row group at once.
        return pa.parquet.ParquetFile(
            file,
            pre_buffer=False,
            buffer_size=CHUNK_BYTES,
            thrift_string_size_limit=MAX_FOOTER_BYTES,
            thrift_container_size_limit=1_000_000,
            schema_depth_limit=MAX_DEPTH,
        )


def _lines(parquet: Any) -> Iterator[bytes]:
    if not parquet.schema_arrow.names:
        raise Broken("corrupt_parquet", "The Parquet file has no columns. Write the rows' keys as columns.")
    for index in range(parquet.num_row_groups):
        with _convert_errors():
            group = parquet.metadata.row_group(index)
            unpacked, num_rows = group.total_byte_size, group.num_rows
        if unpacked > MAX_ROW_GROUP_BYTES:
            raise _too_large(f"decompresses to {unpacked:,} bytes")
        a_row = max(unpacked // max(num_rows, 1), 1)
        batch_size = min(max(BATCH_BYTES // a_row, 1), MAX_BATCH_ROWS)
        with _convert_errors():
            batches = parquet.iter_batches(batch_size, row_groups=[index], use_threads=False)
        while True:
            with _convert_errors():
                batch = next(batches, None)
                lines = [] if batch is None else _batch_lines(batch)
            if batch is None:
                break
            yield from lines


def _batch_lines(batch: Any) -> list[bytes]:
    try:
        return [_line(row) for row in batch.to_pylist(maps_as_pydicts="strict")]
    except UnicodeDecodeError:
        return [_line_alone(batch.slice(place, 1)) for place in range(batch.num_rows)]


def _line_alone(batch: Any) -> bytes:
    try:
        return _line(batch.to_pylist(maps_as_pydicts="strict")[0])
    except UnicodeDecodeError:
        return Flawed.of(b"[]", "not_utf8", "A value of the row is not UTF-8. Write text as strings.")


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(_plain(row), ensure_ascii=False).encode()[: MAX_LINE_BYTES + 1]


def _plain(value: Any) -> Any:
    """Convert a value to JSON's types. Timestamps, decimals and similar values become strings; bytes are decoded as
    UTF-8."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str | int | float | None) else str(value)
