"""Splits the bytes of a file into its lines."""

from collections.abc import Iterable, Iterator
from itertools import chain

from app.domain.datasets.formats import MAX_LINE_BYTES


def split_blocks(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Split chunks into lists of lines without their newline, one list a chunk. A line that is too long is truncated to
    one byte more than allowed."""
    kept = bytearray()
    for chunk in chunks:
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines:
            if kept:
                lines[0] = bytes(kept) + lines[0]
                kept.clear()
            if max(map(len, lines)) > MAX_LINE_BYTES:
                lines = [line[: MAX_LINE_BYTES + 1] for line in lines]
            yield lines
        kept += rest[: max(MAX_LINE_BYTES + 1 - len(kept), 0)]
    if kept:
        yield [bytes(kept)]


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Split chunks into lines, one by one."""
    return chain.from_iterable(split_blocks(chunks))
