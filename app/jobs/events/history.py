"""Reads a job's events and metric points as one sequence, newest first, page by page from any position.

Events carry the database's time, points their worker's. Therefore each attempt is a block: its points are sorted by
time among the events since its claim, and never among those of another attempt, however wrong its clock is.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.db.tables import JobEvent
from app.domain.metric import MetricPoint
from app.jobs.events.repository import HistoryRepository

ENDLESS = 2**62


class EventPlace(NamedTuple):
    number: int


class PointPlace(NamedTuple):
    attempt: int
    number: int


class _Bounds(NamedTuple):
    """Bounds the next page from above: the number of the event, and attempt and number of the point."""

    event: int = ENDLESS
    attempt: int = ENDLESS
    point: int = ENDLESS


class History:
    def __init__(self, session: Session, project_id: str, job_id: str) -> None:
        self.repository = HistoryRepository(session, project_id, job_id)
        self.attempts = self.repository.list_attempts()

    def before(self, place: EventPlace | PointPlace | None, limit: int) -> list[JobEvent | MetricPoint] | None:
        """Return at most `limit` entries older than the one at the position; None if there is none at the position."""
        bounds = self._bounds(place)
        if bounds is None:
            return None
        found: list[JobEvent | MetricPoint] = []
        below = bounds.event
        for number, started_at in [*reversed(self.attempts), (0, None)]:
            if number > bounds.attempt or len(found) == limit:
                continue
            wanted = limit - len(found)
            events = self.repository.list_events(below, started_at, wanted)
            points = self._points(number, bounds.point if number == bounds.attempt else ENDLESS, wanted)
            found += list(_merged(events, points))[:wanted]
            below = events[-1].number if events else below
        return found

    def _bounds(self, place: EventPlace | PointPlace | None) -> _Bounds | None:
        if place is None:
            return _Bounds()
        if isinstance(place, EventPlace):
            at = self.repository.find_event_time(place.number)
            if at is None:
                return None
            attempt = max((number for number, started_at in self.attempts if started_at <= at), default=0)
            return _Bounds(place.number, attempt, self._num_points_until(attempt, at) + 1)
        at = self.repository.find_point_time(place.attempt, place.number)
        if at is None:
            return None
        started_at = dict(self.attempts)[place.attempt]
        following = min((each for number, each in self.attempts if number > place.attempt), default=None)
        until = max(at, started_at) if following is None else min(max(at, started_at), following)
        return _Bounds(self.repository.find_first_event_since(until) or ENDLESS, *place)

    def _points(self, attempt: int, below: int, limit: int) -> list[MetricPoint]:
        last = min(below - 1, self.repository.count_points(attempt))
        return self.repository.list_points(attempt, last - limit + 1, last)

    def _num_points_until(self, attempt: int, at: datetime) -> int:
        """Count the points by bisection, because no index is ordered by time."""
        low, high = 0, self.repository.count_points(attempt)
        while low < high:
            middle = (low + high + 1) // 2
            instant = self.repository.find_point_time(attempt, middle)
            if instant is not None and instant <= at:
                low = middle
            else:
                high = middle - 1
        return low


def _merged(events: Sequence[JobEvent], points: Sequence[MetricPoint]) -> Iterator[JobEvent | MetricPoint]:
    """Merge two sequences that are newest first; at equal times the event counts as newer."""
    waiting = list(reversed(points))
    for event in events:
        while waiting and waiting[-1].measured_at > event.created_at:
            yield waiting.pop()
        yield event
    yield from reversed(waiting)
