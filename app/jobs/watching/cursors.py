"""Defines the positions of a stream's reader, for one job and for several."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Self

from app.domain.ids import is_id
from app.domain.metric import MetricPoint
from app.errors import InvalidCursor

FORM: Final = re.compile(r"(\d{1,18})\.(\d{1,9})\.(\d{1,18})")
MOST_CURSORS: Final = 100


class StreamCursor(NamedTuple):
    """Holds a reader's position: the last event's number, and the last point's attempt and number."""

    event: int = 0
    attempt: int = 0
    point: int = 0

    def encode(self) -> str:
        return f"{self.event}.{self.attempt}.{self.point}"

    @classmethod
    def decode(cls, text: str) -> Self:
        match = FORM.fullmatch(text)
        if not match:
            raise InvalidCursor
        return cls(*(int(group) for group in match.groups()))

    def past(self, point: MetricPoint) -> "StreamCursor":
        return self._replace(attempt=point.attempt, point=point.number)

    def includes(self, other: "StreamCursor") -> bool:
        """Return whether nothing up to the other position lies beyond this one."""
        return self.event >= other.event and self[1:] >= other[1:]


def encode_cursors(places: Mapping[str, StreamCursor]) -> str:
    return ",".join(f"{job_id}:{place.encode()}" for job_id, place in places.items())


def decode_cursors(text: str, job_ids: Iterable[str]) -> dict[str, StreamCursor]:
    """Return the position of each of the jobs that the text names."""
    parts = text.split(",")
    if len(parts) > MOST_CURSORS:
        raise InvalidCursor
    found = dict(_decode_part(part) for part in parts)
    return {job_id: found[job_id] for job_id in job_ids if job_id in found}


def _decode_part(text: str) -> tuple[str, StreamCursor]:
    job_id, _, place = text.partition(":")
    if not is_id(job_id, "ftjob"):
        raise InvalidCursor
    return job_id, StreamCursor.decode(place)
