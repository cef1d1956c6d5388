"""Cursors: where a page of a list, newest first, ends."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

from app.domain.identity import PATTERN
from app.errors import BadCursor

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Cursor(NamedTuple):
    """The last item seen; the next page starts below it. Instants are exact to the microsecond."""

    created_at: datetime
    id: str

    def encode(self) -> str:
        micros = (self.created_at - EPOCH) // timedelta(microseconds=1)
        return base64.urlsafe_b64encode(f"{micros}.{self.id}".encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Self:
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
            micros, _, id = raw.partition(".")
            if not PATTERN.fullmatch(id):
                raise BadCursor
            return cls(EPOCH + timedelta(microseconds=int(micros)), id)
        except (binascii.Error, ValueError, OverflowError) as error:
            raise BadCursor from error
