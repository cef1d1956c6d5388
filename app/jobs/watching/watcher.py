"""Holds what one process knows about a watched job, for all its readers."""

import asyncio
from collections.abc import Iterable
from typing import Final
from weakref import WeakSet

from app.domain.jobs.state import FINAL, JobState
from app.domain.metric import MetricPoint
from app.jobs.watching.cursors import StreamCursor
from app.jobs.watching.items import Item, items_of
from app.jobs.watching.news import Asked, Found
from app.jobs.watching.ring import Ring

MOST_PENDING: Final = 500
STALE_SECONDS: Final = 2.0
"""Sets the time after which a queued job's position and wait reason are read again."""


class StreamReader:
    """Represents one stream, which is woken when there is something new for it."""

    def __init__(self, *, wants_values: bool) -> None:
        self.wants_values = wants_values
        self.woken = asyncio.Event()


class Values:
    """Holds the present values of a job as JSON, and since when they are announced."""

    def __init__(self, text: str, since: float) -> None:
        self.text, self.since = text, since


class JobWatcher:
    """Belongs to one event loop. Its items continue each other without a gap: events by number, points in the order of
    PostgreSQL. A point from Redis is added only if it directly follows the last one of its attempt; until then it is
    pending."""

    def __init__(self, project_id: str, job_id: str) -> None:
        self.project_id, self.job_id = project_id, job_id
        self.readers: WeakSet[StreamReader] = WeakSet()
        self.ring = Ring[Item]()
        self.base: StreamCursor | None = None
        """Is the position before the oldest item that is held; None until the first look."""
        self.head = StreamCursor()
        """Is the position after the newest item."""
        self.end_state: JobState | None = None
        """Is the final state, once all items are known."""
        self.is_gone = False
        """Says that the job does not exist."""
        self.is_broken = False
        """Says that PostgreSQL could not be read. Its streams end, and clients reconnect."""
        self.values: Values | None = None
        """Holds what was read last."""
        self.announced: Values | None = None
        """Holds what is announced to readers that are already there."""
        self.live_position: str | None = None
        """Is the position in Redis from which points are read next."""
        self._basis: tuple[object, ...] | None = None
        self._shown_at = 0.0
        self._pending: dict[tuple[int, int], MetricPoint] = {}

    @property
    def is_live(self) -> bool:
        """Return whether points may be published."""
        return self.base is not None and self.end_state is None and not self.is_gone

    def ask(self, now: float) -> Asked:
        """Return what the next look must find out."""
        place = None if self.base is None else self.head
        wants_values = any(reader.wants_values for reader in self.readers)
        is_stale = now - self._shown_at >= STALE_SECONDS
        return Asked(self.project_id, self.job_id, place, wants_values, self._basis, is_stale)

    def learn(self, found: Found | None, now: float) -> bool:
        """Take in what a look has found; return whether everything was read."""
        if found is None:
            self.is_gone = True
            self.wake()
            return True
        if self.base is None:
            self.base = self.head = found.newest
        num_items, was_over = self.ring.end, self.end_state
        self._add(items_of(found.events, found.points))
        self._add_pending()
        is_complete = self.head.includes(found.newest)
        if found.state in FINAL and is_complete:
            self.end_state = found.state
        if found.values is not None:
            self._basis, self._shown_at = found.basis, now
            if self.values is None or self.values.text != found.values:
                self.values = Values(found.values, now)
        if (self.ring.end, self.end_state) != (num_items, was_over):
            self.wake()
        return is_complete

    def announce(self, now: float) -> None:
        """Announce changed values to the readers. Call it at most once a second."""
        if self.values is not None and (self.announced is None or self.announced.text != self.values.text):
            self.announced = Values(self.values.text, now)
            self.wake()

    def learn_live(self, position: str, points: Iterable[MetricPoint]) -> None:
        """Take in points as Redis delivers them."""
        self.live_position = position
        self._pending |= {(point.attempt, point.number): point for point in points}
        for key in list(self._pending)[:-MOST_PENDING]:
            del self._pending[key]
        num_items = self.ring.end
        self._add_pending()
        if self.ring.end != num_items:
            self.wake()

    def fail(self) -> None:
        self.is_broken = True
        self.wake()

    def _add_pending(self) -> None:
        if self.end_state is not None:
            return
        while point := self._pending.pop((self.head.attempt, self.head.point + 1), None):
            self._add(items_of((), [point]))
        self._pending = {key: point for key, point in self._pending.items() if key > self.head[1:]}

    def _add(self, items: Iterable[Item]) -> None:
        for item in items:
            # While PostgreSQL was read, Redis may have delivered the same point.
            if item.is_beyond(self.head):
                self.head = item.advance(self.head)
                for dropped in self.ring.append(item):
                    assert self.base is not None
                    self.base = dropped.advance(self.base)

    def wake(self) -> None:
        for reader in self.readers:
            reader.woken.set()
