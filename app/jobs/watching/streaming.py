"""Streams jobs' events, metric points and values to one reader, without gaps or repetition.

A reader that is up to date takes items from the watchers' rings; one that is behind reads PostgreSQL itself until it
has caught up. It holds no queue, so a slow reader costs no memory and delays nobody.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from fastapi.concurrency import run_in_threadpool

from app.db.session import Sessions, transaction
from app.errors import JobNotFound
from app.jobs.watching.access import AccessCheck
from app.jobs.watching.cursors import StreamCursor
from app.jobs.watching.framing import PING, RETRY, Framing
from app.jobs.watching.hub import JobHub
from app.jobs.watching.items import Item, items_of
from app.jobs.watching.news import StreamBatch, look
from app.jobs.watching.watcher import JobWatcher, StreamReader

PING_SECONDS: Final = 15.0
VALUES_SECONDS: Final = 1.0
"""Sets the shortest time between two reports of one job's values."""
BEHIND_SECONDS: Final = 1.0
"""Sets the time after which a reader reads PostgreSQL again that is behind and found nothing there."""
ITEMS_A_TURN: Final = 64
ENDLESS: Final = float("inf")


class Part:
    """Holds a reader's position in one job."""

    def __init__(self, watcher: JobWatcher, place: StreamCursor, framing: Framing, *, shows_values: bool) -> None:
        self.watcher, self.place = watcher, place
        self.is_over = False
        self.due_at = ENDLESS
        """Is the time at which there is something to do although nothing is new."""
        self._framing, self._shows_values = framing, shows_values
        self._next: int | None = None
        """Is the number of the next item in the ring; None while the reader is behind the ring."""
        self._values: str | None = None
        self._values_at = 0.0

    @property
    def has_everything(self) -> bool:
        """Return whether the job is over and the reader has read all of it."""
        return self.watcher.end_state is not None and self.place.includes(self.watcher.head)

    @property
    def is_behind(self) -> bool:
        return self._next is None and not self.is_over

    def take(self, now: float) -> list[bytes]:
        """Return what the watcher has for the reader, at most a few items. Nothing is left if it is empty."""
        self.due_at = ENDLESS
        if self.watcher.is_gone:
            return self._leave()
        return [*self._take_values(now), *self._take_items(), *self._take_end(now)]

    def pass_on(self, batch: StreamBatch) -> Iterator[bytes]:
        """Return what PostgreSQL has for the reader."""
        for item in items_of(batch.events, batch.points):
            yield self._write(item)

    def _take_items(self) -> Iterator[bytes]:
        if self._next is None and self.watcher.base is not None and self.place.includes(self.watcher.base):
            self._next = self.watcher.ring.first
        items = None if self._next is None else self.watcher.ring.read(self._next, ITEMS_A_TURN)
        self._next = None if items is None or self._next is None else self._next + len(items)
        for item in items or ():
            if item.is_beyond(self.place):
                yield self._write(item)

    def _write(self, item: Item) -> bytes:
        self.place = item.advance(self.place)
        return self._framing.frame(item.kind, item.data, self.watcher.job_id, self.place)

    def _take_values(self, now: float) -> Iterator[bytes]:
        """Return the values at the start, and what is announced later, at most once a second."""
        if not self._shows_values:
            return
        values = self.watcher.values if self._values is None else self.watcher.announced
        if values is None or values.text == self._values:
            return
        if self._values is None:
            yield self._write_values(values.text, now)
        elif values.since > self._values_at:
            if values.since - self._values_at >= VALUES_SECONDS or now - self._values_at >= VALUES_SECONDS:
                yield self._write_values(values.text, max(values.since, self._values_at))
            else:
                self.due_at = self._values_at + VALUES_SECONDS

    def _write_values(self, text: str, at: float) -> bytes:
        self._values, self._values_at = text, at
        return self._framing.frame("job", text, self.watcher.job_id, self.place)

    def _take_end(self, now: float) -> Iterator[bytes]:
        if self.watcher.end_state is None or self._next != self.watcher.ring.end:
            return
        final = self.watcher.values
        if self._shows_values and final is not None and final.text != self._values:
            if now - self._values_at < VALUES_SECONDS:
                self.due_at = self._values_at + VALUES_SECONDS
                return
            yield self._write_values(final.text, now)
        self.is_over = True
        data = f'{{"state":"{self.watcher.end_state}"}}'
        yield self._framing.frame("end", data, self.watcher.job_id, self.place)

    def _leave(self) -> list[bytes]:
        self.is_over = True
        if not self._shows_values:
            return []
        return [self._framing.frame("deleted", "{}", self.watcher.job_id, self.place)]


async def stream_parts(
    hub: JobHub, sessions: Sessions, reader: StreamReader, parts: Sequence[Part], access: AccessCheck
) -> AsyncIterator[bytes]:
    """Yield the stream's bytes until every job is over and everything was sent, the reader is no longer allowed to
    read, or the server stops."""
    yield RETRY
    sent_at, left = time.monotonic(), list(parts)
    try:
        while left and not hub.is_closed and await access.is_allowed():
            reader.woken.clear()
            is_idle = True
            for part in left:
                if part.watcher.is_broken:
                    return
                async for chunk in _read_part(part, sessions):
                    yield chunk
                    sent_at, is_idle = time.monotonic(), False
            left = [part for part in left if not part.is_over]
            if is_idle and left:
                if time.monotonic() >= sent_at + PING_SECONDS:
                    yield PING
                    sent_at = time.monotonic()
                await wait(reader, min(access.due_at, sent_at + PING_SECONDS, *(part.due_at for part in left)))
    finally:
        leave(reader, parts)


def leave(reader: StreamReader, parts: Sequence[Part]) -> None:
    for part in parts:
        part.watcher.readers.discard(reader)


async def _read_part(part: Part, sessions: Sessions) -> AsyncIterator[bytes]:
    """Yield what there is for the reader now, in pieces that a slow one can take."""
    if lines := part.take(time.monotonic()):
        yield b"".join(lines)
    if not part.is_behind:
        return
    batch = await run_in_threadpool(_look, sessions, part.watcher, part.place)
    found = part.pass_on(batch) if batch else iter(())
    is_empty = True
    while lines := list(islice(found, ITEMS_A_TURN)):
        is_empty = False
        yield b"".join(lines)
    if is_empty:
        part.due_at = time.monotonic() + BEHIND_SECONDS


def _look(sessions: Sessions, watcher: JobWatcher, place: StreamCursor) -> StreamBatch | None:
    """Return None if the job was deleted, which its watcher will notice too."""
    try:
        with transaction(sessions, "follow") as session:
            return look(session, watcher.project_id, watcher.job_id, place)
    except JobNotFound:
        return None


async def wait(reader: StreamReader, until: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(until - time.monotonic(), 0)):
            await reader.woken.wait()
