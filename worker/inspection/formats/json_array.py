"""Splits a JSON array into its elements without parsing them. Each element keeps its bytes, so that the row check sees
every problem in it (a repeated key, NaN).

No library streams elements in this way: existing ones build objects, which lose such problems, and are several times
slower."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from app.domain.datasets.formats import MAX_LINE_BYTES
from worker.inspection.errors import Broken, Flawed

STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
BETWEEN: Final = re.compile(rb'[^"\[\]{},]*+(?:%b[^"\[\]{},]*+)*+' % STRING, re.DOTALL)
"""Matches everything up to the next bracket or comma outside a string."""
WITHIN: Final = re.compile(rb'[^"\[\]{}]*+(?:%b[^"\[\]{}]*+)*+' % STRING, re.DOTALL)
"""Matches everything up to the next bracket outside a string."""
IN_STRING: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
QUOTE, COMMA = ord('"'), ord(",")
WHITE: Final = b" \t\r\n"


def read_array(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield each element as a line. An element that is too long is cut to one byte more than the limit."""
    array = _Array()
    for chunk in chunks:
        yield from array.feed(chunk)
    array.end()


class _Array:
    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._is_escaped = False
        self._kept = bytearray()
        self._num_elements = 0
        self._is_over = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        at = start = 0
        if self._depth == 0 and not self._is_over and (bracket := chunk.find(b"[")) >= 0:
            at = start = bracket + 1
            self._depth = 1
        while at < len(chunk) and self._depth:
            if self._in_string:
                at = self._through_string(chunk, at)
                continue
            at = (BETWEEN if self._depth == 1 else WITHIN).match(chunk, at).end()  # type: ignore[union-attr]
            if at == len(chunk):
                break
            mark, at = chunk[at], at + 1
            if mark == QUOTE:
                self._in_string = True  # The string ends in a later chunk.
            elif mark == COMMA:
                yield self._take(chunk[start : at - 1])
                start = at
            elif mark in b"[{":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    yield from self._close(mark, chunk[start : at - 1])
                    start = at
        self._keep(chunk[start:])

    def _through_string(self, chunk: bytes, at: int) -> int:
        at = IN_STRING.match(chunk, at + self._is_escaped).end()  # type: ignore[union-attr]
        self._is_escaped = False
        if at >= len(chunk):
            return at
        self._in_string = chunk[at] != QUOTE
        self._is_escaped = self._in_string  # A backslash ends the chunk.
        return at + 1

    def _keep(self, piece: bytes) -> None:
        if self._is_over:
            if piece.strip(WHITE):
                message = "There is data after the array's closing bracket. Write exactly one array."
                raise Broken("trailing_data", message)
            return
        piece = piece if self._kept else piece.lstrip(WHITE)
        self._kept += piece[: max(MAX_LINE_BYTES + 1 - len(self._kept), 0)]

    def _take(self, piece: bytes) -> bytes:
        self._keep(piece)
        element, self._num_elements = bytes(self._kept), self._num_elements + 1
        self._kept.clear()
        if len(element) > MAX_LINE_BYTES:
            return element
        # A carriage return, like a newline, is white space between values and invalid within strings.
        element = element.rstrip(WHITE).replace(b"\n", b"\r")
        message = "There is no row between two commas, or after the last one. Remove a comma."
        return element or Flawed.of(b",", "not_json", message)

    def _close(self, mark: int, piece: bytes) -> Iterator[bytes]:
        if mark != ord("]"):
            message = "The array is closed by a brace. Check that the brackets match."
            raise Broken("not_json", message)
        if self._num_elements or self._kept or piece.strip(WHITE):
            yield self._take(piece)
        self._is_over = True

    def end(self) -> None:
        if not self._is_over:
            message = "The file ends before the array's closing bracket. Send the complete file."
            raise Broken("unterminated_array", message)
