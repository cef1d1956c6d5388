"""Reads CSV with a header row: its names become the keys, and cells are strings."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from app.domain.datasets.columns import advise, meant_columns
from app.domain.datasets.formats import MAX_LINE_BYTES, find_format
from app.domain.datasets.report import split_lines
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
        said = f"The first row ({names}) names no format's columns. {advice}"
        raise Broken("missing_header", said)
    named = [name for name in header.names if name]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        names = ", ".join(map(brief, twice[:8]))
        raise Broken("duplicate_column", f"The header names {names} more than once; give each column its own name.")
    return header


def read_csv(chunks: Iterable[bytes], header: Header | None) -> Iterator[bytes]:
    """Yield each row below the header as a line. An error in one row does not stop the others, unless the row's end
    cannot be determined.

    Columns without a name are omitted, and so are empty cells that the format does not require."""
    header = check_header(header)
    maker = _Maker(header.names)
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
                raise Broken("unclosed_quote", "The last row opens a quote that nothing closes; close it.") from error
            yield Flawed.of(
                b"[]", "invalid_csv_row", f"The row cannot be read ({error}); quote each cell, and double quotes in it."
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
            self._refuse()
        return line.decode("utf-8", "surrogateescape") + "\n"

    def _refuse(self) -> None:
        size = f"The row is longer than {MAX_LINE_BYTES:,} bytes"
        if self._num_lines > 1:
            raise Broken("unclosed_quote", f"{size} over {self._num_lines:,} lines; close its quotes, or split it.")
        raise Broken("line_too_long", f"{size}; split the record.")


def required(names: Sequence[str]) -> frozenset[str]:
    """Return the names without which the columns would fit another format, or none."""
    format = find_format(dict.fromkeys(names))
    return frozenset(name for name in names if find_format(dict.fromkeys(set(names) - {name})) != format)


def brief(name: str) -> str:
    return ascii(name[:60])[:60]


class _Maker:
    """Converts cells to a line of JSON."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._required = required(names)
        self._keys = [json.dumps(name, ensure_ascii=False) for name in names]

    def line(self, cells: Sequence[str]) -> bytes:
        if len(cells) != len(self._names):
            said = (
                f"The row has {len(cells):,} cells and the header {len(self._names):,}; quote cells that hold commas."
            )
            return self._flawed(cells, "ragged_row", said)
        members = []
        for name, key, cell in zip(self._names, self._keys, cells, strict=True):
            if "\0" in cell:
                return self._flawed(cells, "nul_bytes", f"The cell {brief(name)} holds a NUL byte; take it out.")
            if not name or not (cell or name in self._required):
                continue
            if name in JSON_COLUMNS:
                if why := _why_no_json(cell):
                    return self._flawed(
                        cells, "invalid_json_cell", f"The cell {brief(name)} is not JSON ({why}); {HOW}."
                    )
                members.append(f"{key}: {cell}".replace("\n", "\r"))
            else:
                members.append(f"{key}: {json.dumps(cell, ensure_ascii=False)}")
        try:
            return f"{{{', '.join(members)}}}".encode()
        except UnicodeEncodeError:
            return self._flawed(cells, "not_utf8", "The row is not UTF-8; save the file as UTF-8.")

    def _flawed(self, cells: Sequence[str], code: str, message: str) -> bytes:
        read = json.dumps(cells, ensure_ascii=False).encode("utf-8", "surrogateescape")
        return Flawed.of(read, code, message)


HOW: Final = "write it as JSON does, with double quotes, and double those for CSV"


def _why_no_json(cell: str) -> str | None:
    try:
        json.loads(cell)
    except RecursionError:
        return "it nests too deep"
    except ValueError as error:
        return str(error)[:100]
    return None
