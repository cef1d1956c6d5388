"""Defines cursors, which mark where a page of a list ends."""

import base64
import binascii
import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

from app.domain.ids import PATTERN
from app.errors import InvalidCursor

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NumberCursor(NamedTuple):
    """Marks the last item of a page of a list by number. The next page starts above it."""

    number: int

    def encode(self) -> str:
        return base64.urlsafe_b64encode(f"number.{self.number}".encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Self:
        word, _, number = _decoded(text).partition(".")
        if word != "number" or not re.fullmatch("[0-9]{1,18}", number):
            raise InvalidCursor
        return cls(int(number))


class Cursor(NamedTuple):
    """Marks the last item of a page of a list, newest first. The next page starts below it. Instants are exact to the
    microsecond."""

    created_at: datetime
    id: str

    def encode(self) -> str:
        micros = (self.created_at - EPOCH) // timedelta(microseconds=1)
        return base64.urlsafe_b64encode(f"{micros}.{self.id}".encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Self:
        micros, _, id = _decoded(text).partition(".")
        if not PATTERN.fullmatch(id):
            raise InvalidCursor
        try:
            return cls(EPOCH + timedelta(microseconds=int(micros)), id)
        except (ValueError, OverflowError) as error:
            raise InvalidCursor from error


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise InvalidCursor from error
