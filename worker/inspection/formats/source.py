"""Reads bytes once, forwards, and keeps the first ones for detection."""

from collections.abc import Iterator
from typing import Final, Protocol

from worker.inspection.errors import Broken

CHUNK_BYTES: Final = 2**18
HEAD_BYTES: Final = 2**16


class Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""


class Source:
    def __init__(self, raw: Readable) -> None:
        self._raw = raw
        self._broken: Broken | None = None
        self.num_read = 0
        """Counts the bytes read from the underlying stream."""
        self.head = self._ahead = self._look()
        """Holds the first HEAD_BYTES bytes, or all if there are fewer."""

    def _look(self) -> bytes:
        head = bytearray()
        try:
            while len(head) < HEAD_BYTES and (chunk := self._take(HEAD_BYTES - len(head))):
                head += chunk
        except Broken as broken:
            self._broken = broken  # Raised after the bytes before it have been read.
        return bytes(head)

    def _take(self, size: int) -> bytes:
        chunk = self._raw.read(size)
        self.num_read += len(chunk)
        return chunk

    def read(self, size: int) -> bytes:
        if self._ahead:
            chunk, self._ahead = self._ahead[:size], self._ahead[size:]
            return chunk
        if self._broken:
            raise self._broken
        return self._take(size)

    def chunks(self) -> Iterator[bytes]:
        while chunk := self.read(CHUNK_BYTES):
            yield chunk
