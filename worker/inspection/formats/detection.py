"""Detects what a file is from its first bytes. The file name decides only if they are ambiguous."""

import json
import re
from pathlib import PurePath
from typing import Final, NamedTuple

from app.domain.datasets.formats import RecordFormat
from app.domain.datasets.problem import Finding
from worker.inspection.formats.columns import AS_IT_IS, Renaming
from worker.inspection.formats.csv_rows import Header, read_header

BOM: Final = b"\xef\xbb\xbf"

REFUSED: Final = (
    (b"%PDF-", "pdf_document", "a PDF document; write its text into rows"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "spreadsheet", "an old Office document; save a sheet as CSV"),
    (b"PK\x03\x04", "zip_archive", "a zip archive; unpack it and send the file inside, plain or with gzip or zstd"),
    (b"PK\x05\x06", "zip_archive", "an empty zip archive; send the rows, plain or with gzip or zstd"),
    (b"BZh", "unsupported_compression", "packed with bzip2; send it plain, or with gzip or zstd"),
    (b"\xfd7zXZ\x00", "unsupported_compression", "packed with xz; send it plain, or with gzip or zstd"),
    (b"7z\xbc\xaf\x27\x1c", "unsupported_compression", "a 7z archive; send its rows plain, or with gzip or zstd"),
    (b"Rar!\x1a\x07", "unsupported_compression", "a RAR archive; send its rows plain, or with gzip or zstd"),
    (b"\x04\x22\x4d\x18", "unsupported_compression", "packed with lz4; send it plain, or with gzip or zstd"),
    (b"ARROW1", "unsupported_container", "an Arrow file; write it as Parquet"),
    (b"Obj\x01", "unsupported_container", "an Avro file; write it as Parquet or JSON Lines"),
    (b"SQLite format 3\x00", "unsupported_container", "an SQLite database; write its rows as JSON Lines"),
)
"""Lists magic bytes, problem codes, and descriptions with advice."""
PACKED_TWICE: Final = "packed twice; pack it once"
OFFICE: Final = re.compile(rb"\[Content_Types\]\.xml|_rels/|xl/|docProps/")
MARKUP: Final = re.compile(
    rb"(?>\s*<!--.*?-->)*+\s*<(?:!doctype\s+html|html|head|body|\?xml)\b", re.IGNORECASE | re.DOTALL
)
"""Allows comments before the tag, as in a page saved by a browser."""
OBJECT: Final = re.compile(rb'\s*\{\s*["}]')
ARRAY: Final = re.compile(rb'\s*\[\s*(?:[\[{"\d\]-]|true\b|false\b|null\b)')
ARRAY_OF_OBJECTS: Final = re.compile(rb"\s*\[\s*\{")

JSON_NAMES: Final = frozenset({".json", ".jsonl", ".ndjson", ".jsonlines"})
CSV_NAMES: Final = frozenset({".csv", ".tsv"})
TEXT_NAMES: Final = frozenset({".txt"})
PACKED_NAMES: Final = frozenset({".gz", ".gzip", ".zst", ".zstd"})
UNKNOWN: Final = "unknown"


class Recognized(NamedTuple):
    container: str
    why: str
    refusal: Finding | None = None
    header: Header | None = None
    """Is set for CSV only."""


def recognize(
    head: bytes, filename: str, format: RecordFormat | None = None, renaming: Renaming = AS_IT_IS
) -> Recognized:
    """Detect the container. `format` is the format that the user named."""
    if head.startswith(b"PAR1"):
        return Recognized("parquet", "It begins with Parquet's magic.")
    if refusal := _refusal(head):
        return Recognized(UNKNOWN, "It is nothing that rows can be read from.", refusal)
    text = head.removeprefix(BOM)
    hint = _hint(filename)
    is_text = hint in TEXT_NAMES
    if (ARRAY_OF_OBJECTS if is_text else ARRAY).match(text):
        return Recognized("json", "It begins with a JSON array.")
    if OBJECT.match(text):
        if _is_one_object(text):
            said = "The file is one JSON object over several lines; write an array of rows, or one object a line."
            return Recognized("json", "It begins with a JSON object.", Finding("", "single_json_object", said))
        return Recognized("jsonl", "It begins with a JSON object, and a line holds one.")
    if b"\0" in text.partition(b"\n")[0]:
        said = "The file begins with NUL bytes: it is no text, or was never written to its end. Send text or Parquet."
        return Recognized(UNKNOWN, "It is nothing that rows can be read from.", Finding("", "nul_bytes", said))
    return _recognize_lines(text, hint, format, renaming)


def _recognize_lines(text: bytes, hint: str, format: RecordFormat | None, renaming: Renaming) -> Recognized:
    first, newline, _ = text.partition(b"\n")
    header = read_header(first, renaming) if newline or first else None
    if header and header.fits and hint not in TEXT_NAMES:
        return Recognized("csv", "Its first line names the columns of a format.", header=header)
    if hint in CSV_NAMES:
        return Recognized("csv", "Its name says so.", header=header)
    if hint in JSON_NAMES or not text.strip():
        return Recognized("jsonl", "Its name says so." if text.strip() else "It is empty.")
    if hint in TEXT_NAMES:
        return Recognized("text", "It is plain text, one document a line: its name says so.")
    if format is RecordFormat.text:
        return Recognized("text", "It is plain text, one document a line: the format was named.")
    said = (
        "The file begins with neither JSON nor a header row. Write one JSON object a line; or, if each line is to be a "
        "row of plain text, name the format text, or end the file's name in .txt."
    )
    return Recognized(UNKNOWN, "It is nothing that rows can be read from.", Finding("", "unrecognized_file", said))


def _refusal(head: bytes) -> Finding | None:
    for magic, code, what in REFUSED:
        if head.startswith(magic):
            if code == "zip_archive" and OFFICE.search(head):
                code, what = "spreadsheet", "an Office document; save a sheet as CSV"
            return Finding("", code, f"The file is {what}.")
    if head[257:262] == b"ustar":
        said = "The file is a tar archive; unpack it and send the file inside, plain or with gzip or zstd."
        return Finding("", "tar_archive", said)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _alternates(head):
        return Finding("", "not_utf8", "The file is UTF-16 or UTF-32; save it as UTF-8.")
    if MARKUP.match(head.removeprefix(BOM).lstrip()):
        said = "The file is an HTML or XML page, as a server answers that wants a login; download the data itself."
        return Finding("", "html_page", said)
    return None


def _alternates(head: bytes) -> bool:
    """Return whether every second of the first bytes is NUL, as in UTF-16 without a byte order mark."""
    first = head[:8]
    if len(first) < 4:
        return False
    return any(not any(first[start::2]) and all(first[1 - start :: 2]) for start in (0, 1))


def _is_one_object(text: bytes) -> bool:
    """Return whether the first line is not a whole object and the second one does not begin an object."""
    first, newline, rest = text.lstrip().partition(b"\n")
    second = rest.lstrip()[:1]
    if not newline or not second or second == b"{":
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return True
    return False


def _hint(filename: str) -> str:
    path = PurePath(filename.lower())
    return PurePath(path.stem).suffix if path.suffix in PACKED_NAMES else path.suffix
