"""Writes metric values as Parquet, row group by row group. Import it only where needed: importing pyarrow takes half a
second."""

import io
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from app.jobs.metrics.queries import EXPORT_COLUMNS

ROW_GROUP = 250_000
"""Sets the minimum number of values of every row group but the last: small groups would make a large and slow file."""

TYPES = (pa.string(), pa.int64(), pa.float64(), pa.int64(), pa.int64(), pa.timestamp("us", tz="UTC"))
SCHEMA = pa.schema(list(zip(EXPORT_COLUMNS, TYPES, strict=True)))


class Sink(io.RawIOBase):
    """Buffers what the writer writes until it is taken out."""

    def __init__(self) -> None:
        self._written: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._written.append(bytes(data))
        self._position += len(data)
        return len(data)

    def take(self) -> bytes:
        written, self._written = b"".join(self._written), []
        return written


def as_parquet(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield Parquet from lines as `csv_export.read_windows` yields them."""
    sink = Sink()
    with pyarrow.parquet.ParquetWriter(sink, SCHEMA, compression="zstd") as writer:
        for table in _row_groups(lines):
            writer.write_table(table, row_group_size=len(table))
            yield sink.take()
    yield sink.take()


def _row_groups(lines: Iterable[bytes]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for window in lines:
        waiting.append(_table(window))
        if sum(map(len, waiting)) >= ROW_GROUP:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _table(lines: bytes) -> pa.Table:
    return pyarrow.csv.read_csv(
        io.BytesIO(lines),
        pyarrow.csv.ReadOptions(column_names=SCHEMA.names, use_threads=False),
        # NaN is a value, not a missing one.
        convert_options=pyarrow.csv.ConvertOptions(column_types=SCHEMA, null_values=[]),
    )
