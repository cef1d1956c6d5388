"""What an uploaded file holds, as JSON Lines. It knows one container so far: JSON Lines themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from app.domain.dataset import split_lines
from app.domain.problem import Finding

CHUNK_BYTES: Final = 2**18


class Unreadable(Exception):
    """The file cannot be read on from `line`; the finding says why."""

    def __init__(self, line: int, finding: Finding) -> None:
        super().__init__(finding.message)
        self.line, self.finding = line, finding


@dataclass
class Rows:
    """A file's rows. Reading `lines` may raise Unreadable."""

    container: str
    compression: str
    why: str
    """How container and compression were recognized."""
    verbatim: bool
    """The upload itself is these lines."""
    lines: Iterator[bytes]
    """JSON Lines without their newline, in memory that does not grow with the file."""


def read_rows(source: BinaryIO, filename: str, scratch: Path) -> Rows:
    """`source` is read once, forwards: it may be a pipe. `scratch` is a folder for files of its own."""
    chunks = iter(lambda: source.read(CHUNK_BYTES), b"")
    return Rows("jsonl", "none", "Nothing else is known of its name and its first bytes.", True, split_lines(chunks))
