"""Defines error codes of files and rows that cannot be read from their container, and the line that represents such a
row among rows stored as JSON Lines.
"""

import json
from typing import Final

CONTAINER_CODES: Final[dict[str, str]] = {
    "truncated_file": "The gzip, zstd or Parquet data ends too early: the file is incomplete.",
    "corrupt_compression": "The gzip or zstd data cannot be decompressed.",
    "corrupt_parquet": "The footer or a page of the Parquet file is corrupt.",
    "decompressed_too_large": "The file exceeds the size limits when it is decompressed.",
    "row_group_too_large": "A row group of the Parquet file exceeds the limits.",
    "unsupported_compression": "The file is compressed twice, or not with gzip or zstd.",
    "zip_archive": "The file is a zip archive.",
    "tar_archive": "The file is a tar archive.",
    "spreadsheet": "The file is a workbook or another Office document.",
    "pdf_document": "The file is a PDF document.",
    "html_page": "The file is an HTML or XML page, such as a login page.",
    "unsupported_container": "The file has an unsupported format: Arrow, Avro or SQLite.",
    "unrecognized_file": "The file has no known format, and neither its name nor `format` declares it plain text.",
    "not_utf8": "The file is UTF-16 or UTF-32, or one of its rows is not UTF-8.",
    "nul_bytes": "The file begins with NUL bytes, or a row contains one.",
    "single_json_object": "The file is one JSON object over several lines, not an array of rows.",
    "unterminated_array": "A JSON array ends before its closing bracket.",
    "trailing_data": "Data follows the array's closing bracket.",
    "not_json": "An array has unmatched brackets or an extra comma.",
    "missing_header": "The first CSV row does not name the columns of any format.",
    "duplicate_column": "The first CSV row names a column twice.",
    "unclosed_quote": "A CSV row has a quote that is not closed.",
    "line_too_long": "A CSV row is longer than 8 MiB, so the start of the next row is unknown.",
    "column_conflict": "A row already has a key that `columns` maps from another key.",
    "ragged_row": "A CSV row has more or fewer cells than the header.",
    "invalid_csv_row": "A CSV row has a quote or a carriage return in the wrong place.",
    "invalid_json_cell": "A CSV cell that must contain JSON does not.",
}
"""Maps each code to its meaning. `docs/datasets.md` lists them."""

FLAWED: Final = b'["tunewright:unreadable", '
"""Begins a line that represents an unreadable row of the container. The line is an array, so that a reader that
does not know it also refuses it as a row."""


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
