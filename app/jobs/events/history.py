"""A job's events and metric points in one row, the newest first, read a page at a time from whichever place.

Events are stamped by the database's clock, points by their worker's. So each attempt is a block: its points stand among
the events since its claim by their times, and never among those of another attempt, however far its clock is off.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.db.tables import Attempt, JobEvent, MetricValue
from app.domain.metric import MetricPoint

ENDLESS = 2**62


class EventPlace(NamedTuple):
    number: int


class PointPlace(NamedTuple):
    attempt: int
    number: int


class _Bounds(NamedTuple):
    """What comes next is below: the number of the event, and attempt and number of the point."""

    event: int = ENDLESS
    attempt: int = ENDLESS
    point: int = ENDLESS


class History:
    def __init__(self, session: Session, project_id: str, job_id: str) -> None:
        self.session, self.project_id, self.job_id = session, project_id, job_id
        query = select(Attempt.number, Attempt.started_at).where(
            Attempt.project_id == project_id, Attempt.job_id == job_id
        )
        self.attempts: list[tuple[int, datetime]] = [
            (number, at) for number, at in self.session.execute(query.order_by(Attempt.number))
        ]

    def before(self, place: EventPlace | PointPlace | None, limit: int) -> list[JobEvent | MetricPoint] | None:
        """At most `limit`, older than what stands at the place; None if nothing does."""
        bounds = self._bounds(place)
        if bounds is None:
            return None
        found: list[JobEvent | MetricPoint] = []
        below = bounds.event
        for number, started_at in [*reversed(self.attempts), (0, None)]:
            if number > bounds.attempt or len(found) == limit:
                continue
            wanted = limit - len(found)
            events = self._events(below, started_at, wanted)
            points = self._points(number, bounds.point if number == bounds.attempt else ENDLESS, wanted)
            found += list(_merged(events, points))[:wanted]
            below = events[-1].number if events else below
        return found

    def _bounds(self, place: EventPlace | PointPlace | None) -> _Bounds | None:
        if place is None:
            return _Bounds()
        if isinstance(place, EventPlace):
            at = self.session.scalars(
                select(JobEvent.created_at).where(*self._own(JobEvent, number=place.number))
            ).first()
            if at is None:
                return None
            attempt = max((number for number, started_at in self.attempts if started_at <= at), default=0)
            return _Bounds(place.number, attempt, self._num_points_until(attempt, at) + 1)
        at = self._instant(place.attempt, place.number)
        if at is None:
            return None
        started_at = dict(self.attempts)[place.attempt]
        following = min((each for number, each in self.attempts if number > place.attempt), default=None)
        until = max(at, started_at) if following is None else min(max(at, started_at), following)
        query = select(func.min(JobEvent.number)).where(*self._own(JobEvent), JobEvent.created_at >= until)
        return _Bounds(self.session.scalars(query).one() or ENDLESS, *place)

    def _events(self, below: int, since: datetime | None, limit: int) -> Sequence[JobEvent]:
        query = select(JobEvent).where(*self._own(JobEvent), JobEvent.number < below)
        if since is not None:
            query = query.where(JobEvent.created_at >= since)
        return self.session.scalars(query.order_by(JobEvent.number.desc()).limit(limit)).all()

    def _points(self, attempt: int, below: int, limit: int) -> list[MetricPoint]:
        """An attempt's points are numbered from 1 without gaps."""
        last = min(below - 1, self._num_points(attempt))
        query = (
            select(MetricValue)
            .where(*self._own(MetricValue, attempt=attempt), MetricValue.number.between(last - limit + 1, last))
            .order_by(MetricValue.number.desc(), MetricValue.name)
        )
        return [
            MetricPoint(
                attempt=attempt, number=number, step=step, measured_at=at, values={row.name: row.value for row in rows}
            )
            for (number, step, at), rows in groupby(
                self.session.scalars(query), key=lambda row: (row.number, row.step, row.measured_at)
            )
        ]

    def _num_points(self, attempt: int) -> int:
        query = select(func.max(MetricValue.number)).where(*self._own(MetricValue, attempt=attempt))
        return self.session.scalars(query).one() or 0

    def _num_points_until(self, attempt: int, at: datetime) -> int:
        """Looked for by halves: no index goes by time."""
        low, high = 0, self._num_points(attempt)
        while low < high:
            middle = (low + high + 1) // 2
            instant = self._instant(attempt, middle)
            if instant is not None and instant <= at:
                low = middle
            else:
                high = middle - 1
        return low

    def _instant(self, attempt: int, number: int) -> datetime | None:
        query = select(MetricValue.measured_at).where(*self._own(MetricValue, attempt=attempt, number=number))
        return self.session.scalars(query.limit(1)).first()

    def _own(self, table: type[JobEvent] | type[MetricValue], **values: int) -> list[ColumnElement[bool]]:
        owner = {"project_id": self.project_id, "job_id": self.job_id}
        return [getattr(table, name) == value for name, value in (owner | values).items()]


def _merged(events: Sequence[JobEvent], points: Sequence[MetricPoint]) -> Iterator[JobEvent | MetricPoint]:
    """Both newest first; of one instant the event is the newer."""
    waiting = list(reversed(points))
    for event in events:
        while waiting and waiting[-1].measured_at > event.created_at:
            yield waiting.pop()
        yield event
    yield from reversed(waiting)
