"""Reads an upload as rows of JSON Lines from JSON Lines, a JSON array, CSV, Parquet or plain text, each optionally
compressed with gzip or zstd. Memory use does not grow with the file."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

from app.domain.datasets.formats import MAX_LINE_BYTES, RecordFormat
from app.domain.datasets.lines import split_blocks, split_lines
from app.domain.datasets.problem import Finding
from worker.inspection.errors import Broken, Flawed, Unreadable
from worker.inspection.formats.columns import Renaming
from worker.inspection.formats.compression import Unpacked, find_compression
from worker.inspection.formats.csv_rows import read_csv
from worker.inspection.formats.detection import BOM, COMPRESSED_TWICE, UNKNOWN, Recognized, recognize
from worker.inspection.formats.json_array import read_array
from worker.inspection.formats.source import CHUNK_BYTES, Source

__all__ = ["CHUNK_BYTES", "Flawed", "Unreadable", "UploadedRows", "in_blocks", "read_rows"]

BLOCK_LINES: Final = 2**12


@dataclass
class UploadedRows:
    """Holds the rows of an upload. `blocks` holds JSON Lines without their newline, in groups of CHUNK_BYTES plus at
    most one line of any length.

    Reading them may raise Unreadable, and a line may be Flawed."""

    container: str
    """Is jsonl, json, csv, parquet or text; unknown if rows cannot be read."""
    compression: str
    """Is none, gzip or zstd."""
    why: str
    """Says in a sentence how container and compression were detected."""
    verbatim: bool
    """Says whether the upload consists of exactly these lines."""
    blocks: Iterator[list[bytes]]

    @property
    def lines(self) -> Iterator[bytes]:
        return chain.from_iterable(self.blocks)


def read_rows(
    source: BinaryIO,
    filename: str,
    scratch: Path,
    format: RecordFormat | None = None,
    columns: Mapping[str, str] | None = None,
) -> UploadedRows:
    """Detect the container and compression, and return the rows.

    `format` is the format that the user named; `columns` maps fields to the file's keys. `source` is read once,
    forwards, so it may be a pipe. `scratch` is a folder with disk space for the whole file, which Parquet needs."""
    plain = Source(source)
    compression = find_compression(plain.head)
    if compression != "none":
        plain = Source(Unpacked(plain, compression))
    renaming = Renaming(columns or {})
    found = _recognize(plain.head, filename, compression, format, renaming)
    verbatim = found.container == "jsonl" and compression == "none" and not columns
    blocks = split_blocks(plain.chunks()) if verbatim else _numbered(plain, found, scratch)
    if columns and found.container not in ("csv", "text"):  # The header's names were already renamed.
        blocks = renaming.blocks(blocks)
    why = found.why if compression == "none" else f"It is compressed with {compression}. Decompressed: {found.why}"
    return UploadedRows(found.container, compression, why, verbatim, blocks)


def _recognize(
    head: bytes, filename: str, compression: str, format: RecordFormat | None, renaming: Renaming
) -> Recognized:
    if compression != "none" and find_compression(head) != "none":
        refusal = Finding("", "unsupported_compression", f"The file is {COMPRESSED_TWICE}.")
        return Recognized(UNKNOWN, "It is compressed twice.", refusal)
    return recognize(head, filename, format, renaming)


def _blocks(source: Source, found: Recognized, scratch: Path) -> Iterator[list[bytes]]:
    if found.refusal:
        raise Broken(found.refusal.code, found.refusal.message)
    if found.container == "parquet":
        from worker.inspection.formats.parquet_rows import read_parquet

        return in_blocks(read_parquet(source, scratch))
    chunks = source.chunks() if found.container == "jsonl" else _without_bom(source.chunks())
    match found.container:
        case "jsonl":
            return split_blocks(chunks)
        case "json":
            return in_blocks(read_array(chunks))
        case "csv":
            return in_blocks(read_csv(chunks, found.header))
    return in_blocks(map(_text_line, split_lines(chunks)))


def _without_bom(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for first in chunks:
        yield first.removeprefix(BOM)
        break
    yield from chunks


def _text_line(line: bytes) -> bytes:
    """Convert a line of text to a row. Blank lines stay blank, so that line numbers match those in an editor."""
    line = line.removesuffix(b"\r")
    if not line.strip() or len(line) > MAX_LINE_BYTES:
        return line[: MAX_LINE_BYTES + 1] if line.strip() else b""
    if b"\0" in line:
        return Flawed.of(line, "nul_bytes", "The line contains a NUL byte. Remove it.")
    try:
        return json.dumps({"text": line.decode()}, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        message = f"Byte {error.start + 1} of the line is not UTF-8. Save the file as UTF-8."
        return Flawed.of(line, "not_utf8", message)


def _numbered(source: Source, found: Recognized, scratch: Path) -> Iterator[list[bytes]]:
    number = 0
    try:
        for block in _blocks(source, found, scratch):
            number += len(block)
            yield block
    except Broken as broken:
        raise Unreadable(number + 1, broken.finding) from broken


def in_blocks(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Group single lines into blocks. Lines before an error are yielded before it is raised."""
    held, size = list[bytes](), 0
    try:
        for line in lines:
            held.append(line)
            size += len(line)
            if size >= CHUNK_BYTES or len(held) == BLOCK_LINES:
                yield held
                held, size = [], 0
    except (Broken, Unreadable):
        if held:
            yield held
        raise
    if held:
        yield held
