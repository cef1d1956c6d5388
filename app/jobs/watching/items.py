"""Defines what a job's stream passes on: events and points, each in JSON once for all readers."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from app.domain.metric import MetricPoint
from app.jobs.events.schemas import EventOut
from app.jobs.watching.cursors import StreamCursor


class Item(NamedTuple):
    """Represents an event or a metric point. `number` is the event's, or the point's within its `attempt`."""

    kind: str
    data: str
    attempt: int
    number: int

    def is_beyond(self, place: StreamCursor) -> bool:
        if self.kind == "job_event":
            return self.number > place.event
        return (self.attempt, self.number) > place[1:]

    def advance(self, place: StreamCursor) -> StreamCursor:
        """Return the position of a reader at `place` after this item."""
        if self.kind == "job_event":
            return place._replace(event=self.number)
        return place._replace(attempt=self.attempt, point=self.number)


def items_of(events: Iterable[EventOut], points: Iterable[MetricPoint]) -> Iterator[Item]:
    for event in events:
        yield Item("job_event", event.model_dump_json(), 0, event.number)
    for point in points:
        yield Item("metrics", point.model_dump_json(), point.attempt, point.number)
