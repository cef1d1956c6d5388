"""Reads CSV with a header row: its names become the keys, and cells are strings."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from app.domain.datasets.columns import advise, meant_columns
from app.domain.datasets.formats import MAX_LINE_BYTES, find_format
from app.domain.datasets.lines import split_lines
from worker.inspection.errors import Broken, Flawed
from worker.inspection.formats.columns import Renaming

DELIMITERS: Final = (",", ";", "\t")
JSON_COLUMNS: Final = frozenset({"messages", "conversations", "tools", "history"})


class Header(NamedTuple):
    names: Sequence[str]
    delimiter: str
    fits: bool
    """Says whether the names fit a format."""


def read_header(line: bytes, renaming: Renaming) -> Header | None:
    """Parse the header with the first delimiter whose names fit a format, otherwise with the comma; return None if the
    line is not CSV."""
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    found: Header | None = None
    for delimiter in DELIMITERS:
        try:
            [found_names] = csv.reader([text], delimiter=delimiter, strict=True)
        except (csv.Error, ValueError):
            continue
        names = list(map(renaming.name, found_names))
        header = Header(names, delimiter, find_format(dict.fromkeys(names)) is not None)
        if header.fits:
            return header
        found = found or header
    return found


def check_header(header: Header | None) -> Header:
    if header is None or not header.fits:
        names = ", ".join(brief(name) for name in (header.names if header else ())[:8]) or "none"
        meant = meant_columns(header.names) if header else None
        advice = advise(meant) if meant else "Write a header row, such as prompt,completion."
        message = f"The first row ({names}) does not name the columns of a format. {advice}"
        raise Broken("missing_header", message)
    named = [name for name in header.names if name]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        names = ", ".join(map(brief, twice[:8]))
        raise Broken("duplicate_column", f"The header names {names} more than once. Give each column a different name.")
    return header


def read_csv(chunks: Iterable[bytes], header: Header | None) -> Iterator[bytes]:
    """Yield each row below the header as a line. An error in one row does not stop the others, unless the row's end
    cannot be determined.

    Columns without a name are omitted, and so are empty cells that the format does not require."""
    header = check_header(header)
    maker = _RowMaker(header.names)
    csv.field_size_limit(MAX_LINE_BYTES + 1)
    lines = _Lines(chunks)
    reader = csv.reader(lines, delimiter=header.delimiter, strict=True)
    next(reader)
    while True:
        lines.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if lines.is_over:
                raise Broken("unclosed_quote", "The last row has an unclosed quote. Close it.") from error
            yield Flawed.of(
                b"[]",
                "invalid_csv_row",
                f"The row is not valid CSV ({error}). Quote each cell and double the quotes in it.",
            )
            continue
        if cells:
            yield maker.line(cells)


class _Lines:
    """Supplies the CSV reader with lines; it reads several for a row whose cells contain line breaks."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._lines = split_lines(chunks)
        self._num_bytes = self._num_lines = 0
        self.is_over = False

    def begin_row(self) -> None:
        self._num_bytes = self._num_lines = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        if line is None:
            self.is_over = True
            raise StopIteration
        self._num_bytes += len(line) + 1
        self._num_lines += 1
        if self._num_bytes > MAX_LINE_BYTES + 1:
            self._raise_too_long()
        return line.decode("utf-8", "surrogateescape") + "\n"

    def _raise_too_long(self) -> None:
        size = f"The row is longer than {MAX_LINE_BYTES:,} bytes"
        if self._num_lines > 1:
            raise Broken(
                "unclosed_quote", f"{size} over {self._num_lines:,} lines. Close its quotes, or split the row."
            )
        raise Broken("line_too_long", f"{size}. Split the row.")


def required(names: Sequence[str]) -> frozenset[str]:
    """Return the names without which the columns would fit another format, or none."""
    format = find_format(dict.fromkeys(names))
    return frozenset(name for name in names if find_format(dict.fromkeys(set(names) - {name})) != format)


def brief(name: str) -> str:
    return ascii(name[:60])[:60]


class _RowMaker:
    """Converts cells to a line of JSON."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._required = required(names)
        self._keys = [json.dumps(name, ensure_ascii=False) for name in names]

    def line(self, cells: Sequence[str]) -> bytes:
        if len(cells) != len(self._names):
            counts = f"The row has {len(cells):,} cells, but the header has {len(self._names):,}"
            message = f"{counts}. Quote cells that contain commas."
            return self._flawed(cells, "ragged_row", message)
        members = []
        for name, key, cell in zip(self._names, self._keys, cells, strict=True):
            if "\0" in cell:
                return self._flawed(cells, "nul_bytes", f"The cell {brief(name)} contains a NUL byte. Remove it.")
            if not name or not (cell or name in self._required):
                continue
            if name in JSON_COLUMNS:
                if why := _json_error(cell):
                    return self._flawed(
                        cells, "invalid_json_cell", f"The cell {brief(name)} is not JSON ({why}). {JSON_ADVICE}"
                    )
                members.append(f"{key}: {cell}".replace("\n", "\r"))
            else:
                members.append(f"{key}: {json.dumps(cell, ensure_ascii=False)}")
        try:
            return f"{{{', '.join(members)}}}".encode()
        except UnicodeEncodeError:
            return self._flawed(cells, "not_utf8", "The row is not UTF-8. Save the file as UTF-8.")

    def _flawed(self, cells: Sequence[str], code: str, message: str) -> bytes:
        read = json.dumps(cells, ensure_ascii=False).encode("utf-8", "surrogateescape")
        return Flawed.of(read, code, message)


JSON_ADVICE: Final = "Write JSON with double quotes, and double each quote for CSV."


def _json_error(cell: str) -> str | None:
    try:
        json.loads(cell)
    except RecursionError:
        return "it is nested too deeply"
    except ValueError as error:
        return str(error)[:100]
    return None
