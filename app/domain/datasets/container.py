"""Defines error codes of files and rows that cannot be read from their container, and the line that represents such a
row among rows stored as JSON Lines.
"""

import json
from typing import Final

CONTAINER_CODES: Final[dict[str, str]] = {
    "truncated_file": "gzip, zstd or Parquet data ends too early: the file was not sent whole.",
    "corrupt_compression": "gzip or zstd data cannot be unpacked.",
    "corrupt_parquet": "A footer or a page of the Parquet file says what cannot be.",
    "decompressed_too_large": "A file grows beyond the bounds when it is unpacked.",
    "row_group_too_large": "A row group of the Parquet file is beyond the bounds.",
    "unsupported_compression": "The file is packed in another way than gzip or zstd, or twice.",
    "zip_archive": "The file is a zip archive.",
    "tar_archive": "The file is a tar archive.",
    "spreadsheet": "The file is a workbook or another Office document.",
    "pdf_document": "The file is a PDF document.",
    "html_page": "The file is an HTML or XML page, such as one that asks for a login.",
    "unsupported_container": "The file is of another kind: Arrow, Avro, SQLite.",
    "unrecognized_file": "The file is none of these, and neither its name nor the format says that it is plain text.",
    "not_utf8": "The file is UTF-16 or UTF-32, or a row of it is not UTF-8.",
    "nul_bytes": "The file begins with NUL bytes, or a row holds one.",
    "single_json_object": "The file is one JSON object over several lines, and not an array of rows.",
    "unterminated_array": "A JSON array ends before its closing bracket.",
    "trailing_data": "Something follows the array's closing bracket.",
    "not_json": "An array's brackets do not match, or it has a comma too many.",
    "missing_header": "The first row of CSV names no format's columns.",
    "duplicate_column": "The first row of CSV names a column twice.",
    "unclosed_quote": "A row of CSV opens a quote, and nobody can tell where it ends.",
    "line_too_long": "A row of CSV is longer than 8 MiB, and nobody can tell where the next one begins.",
    "column_conflict": "A row has a key that `columns` takes from another key.",
    "ragged_row": "A row of CSV has more or fewer cells than the header.",
    "invalid_csv_row": "A row of CSV has a quote or a carriage return in the wrong place.",
    "invalid_json_cell": "A cell of CSV that must hold JSON does not.",
}
"""Maps each code to its meaning. `docs/datasets.md` lists them."""

FLAWED: Final = b'["tunewright:unreadable", '
"""Begins a line that represents an unreadable row of the container. The line is an array, so that a reader without
knowledge of it refuses it as a row too."""


def flawed_line(code: str, message: str) -> bytes:
    assert code in CONTAINER_CODES
    return FLAWED + json.dumps([code, message]).encode()[1:]


def flaw_in(line: bytes) -> tuple[str, str] | None:
    """Return code and message if a line represents an unreadable row."""
    if not line.startswith(FLAWED):
        return None
    try:
        _, code, message = json.loads(line)
    except ValueError:
        return None
    known = isinstance(message, str) and isinstance(code, str) and code in CONTAINER_CODES
    return (code, message) if known else None
