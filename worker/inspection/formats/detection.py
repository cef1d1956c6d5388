"""Detects what a file is from its first bytes. The file name decides only if they are ambiguous."""

import json
import re
from pathlib import PurePath
from typing import Final, NamedTuple

from app.domain.datasets.formats import RecordFormat
from app.domain.datasets.problem import Finding
from worker.inspection.formats.columns import NO_RENAMING, Renaming
from worker.inspection.formats.csv_rows import Header, read_header

BOM: Final = b"\xef\xbb\xbf"

REFUSED: Final = (
    (b"%PDF-", "pdf_document", "a PDF document. Write its text into rows"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "spreadsheet", "an old Office document. Save a sheet as CSV"),
    (
        b"PK\x03\x04",
        "zip_archive",
        "a zip archive. Unpack it and send the file inside, uncompressed or with gzip or zstd",
    ),
    (b"PK\x05\x06", "zip_archive", "an empty zip archive. Send the rows, uncompressed or with gzip or zstd"),
    (b"BZh", "unsupported_compression", "compressed with bzip2. Send it uncompressed, or with gzip or zstd"),
    (b"\xfd7zXZ\x00", "unsupported_compression", "compressed with xz. Send it uncompressed, or with gzip or zstd"),
    (
        b"7z\xbc\xaf\x27\x1c",
        "unsupported_compression",
        "a 7z archive. Send its rows uncompressed, or with gzip or zstd",
    ),
    (b"Rar!\x1a\x07", "unsupported_compression", "a RAR archive. Send its rows uncompressed, or with gzip or zstd"),
    (b"\x04\x22\x4d\x18", "unsupported_compression", "compressed with lz4. Send it uncompressed, or with gzip or zstd"),
    (b"ARROW1", "unsupported_container", "an Arrow file. Write it as Parquet"),
    (b"Obj\x01", "unsupported_container", "an Avro file. Write it as Parquet or JSON Lines"),
    (b"SQLite format 3\x00", "unsupported_container", "an SQLite database. Write its rows as JSON Lines"),
)
"""Lists magic bytes, problem codes, and descriptions with advice."""
COMPRESSED_TWICE: Final = "compressed twice. Compress it once"
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
COMPRESSED_NAMES: Final = frozenset({".gz", ".gzip", ".zst", ".zstd"})
UNKNOWN: Final = "unknown"


class Recognized(NamedTuple):
    container: str
    why: str
    refusal: Finding | None = None
    header: Header | None = None
    """Is set for CSV only."""


def recognize(
    head: bytes, filename: str, format: RecordFormat | None = None, renaming: Renaming = NO_RENAMING
) -> Recognized:
    """Detect the container. `format` is the format that the user named."""
    if head.startswith(b"PAR1"):
        return Recognized("parquet", "It begins with the magic bytes of Parquet.")
    if refusal := _find_refusal(head):
        return Recognized(UNKNOWN, "It is not a supported file of rows.", refusal)
    text = head.removeprefix(BOM)
    hint = _name_suffix(filename)
    is_text = hint in TEXT_NAMES
    if (ARRAY_OF_OBJECTS if is_text else ARRAY).match(text):
        return Recognized("json", "It begins with a JSON array.")
    if OBJECT.match(text):
        if _is_one_object(text):
            message = "The file is one JSON object over several lines. Write an array of rows, or one object per line."
            return Recognized("json", "It begins with a JSON object.", Finding("", "single_json_object", message))
        return Recognized("jsonl", "It begins with a JSON object on one line.")
    if b"\0" in text.partition(b"\n")[0]:
        message = "The file begins with NUL bytes: it is not text, or is incomplete. Send text or Parquet."
        return Recognized(UNKNOWN, "It is not a supported file of rows.", Finding("", "nul_bytes", message))
    return _recognize_lines(text, hint, format, renaming)


def _recognize_lines(text: bytes, hint: str, format: RecordFormat | None, renaming: Renaming) -> Recognized:
    first, newline, _ = text.partition(b"\n")
    header = read_header(first, renaming) if newline or first else None
    if header and header.fits and hint not in TEXT_NAMES:
        return Recognized("csv", "Its first line names the columns of a format.", header=header)
    if hint in CSV_NAMES:
        return Recognized("csv", f"Its name ends in {hint}.", header=header)
    if hint in JSON_NAMES or not text.strip():
        return Recognized("jsonl", f"Its name ends in {hint}." if text.strip() else "It is empty.")
    if hint in TEXT_NAMES:
        return Recognized("text", f"It is plain text with one document per line, since its name ends in {hint}.")
    if format is RecordFormat.text:
        return Recognized("text", "It is plain text with one document per line, as the format was specified.")
    message = (
        "The file begins with neither JSON nor a header row. Write one JSON object per line. If each line is a row of "
        "plain text, specify the format text, or use a file name that ends in .txt."
    )
    return Recognized(UNKNOWN, "It is not a supported file of rows.", Finding("", "unrecognized_file", message))


def _find_refusal(head: bytes) -> Finding | None:
    for magic, code, what in REFUSED:
        if head.startswith(magic):
            if code == "zip_archive" and OFFICE.search(head):
                code, what = "spreadsheet", "an Office document. Save a sheet as CSV"
            return Finding("", code, f"The file is {what}.")
    if head[257:262] == b"ustar":
        message = "The file is a tar archive. Unpack it and send the file inside, uncompressed or with gzip or zstd."
        return Finding("", "tar_archive", message)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _looks_like_utf16(head):
        return Finding("", "not_utf8", "The file is UTF-16 or UTF-32. Save it as UTF-8.")
    if MARKUP.match(head.removeprefix(BOM).lstrip()):
        message = "The file is an HTML or XML page, perhaps a login page. Download the data itself."
        return Finding("", "html_page", message)
    return None


def _looks_like_utf16(head: bytes) -> bool:
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


def _name_suffix(filename: str) -> str:
    path = PurePath(filename.lower())
    return PurePath(path.stem).suffix if path.suffix in COMPRESSED_NAMES else path.suffix
