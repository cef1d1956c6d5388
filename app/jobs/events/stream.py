"""Streams a job's events and metric points live, without gaps or repetition.

PostgreSQL is read first and whenever in doubt; Redis only reduces the delay. A point from Redis is passed on only if it
directly follows the last one of the attempt; all others wait for the next read of PostgreSQL, which holds them all.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple, Self

import redis.asyncio
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import format_sse_event
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from app.db.session import Sessions, transaction
from app.domain.jobs.state import FINAL, JobState
from app.domain.metric import MetricPoint
from app.errors import InvalidCursor, JobNotFound
from app.jobs.events.schemas import EventOut
from app.jobs.metrics.repository import MetricRepository
from app.jobs.repository import JobRepository
from app.live_metrics import newest_live, read_live

BATCH = 500
LOOK_SECONDS = 1.0
PING_SECONDS = 15.0
CHECK_SECONDS = 3.0
FORM = re.compile(r"(\d{1,18})\.(\d{1,9})\.(\d{1,18})")


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


class StreamBatch(NamedTuple):
    state: JobState
    events: Sequence[EventOut]
    points: Sequence[MetricPoint]

    @property
    def is_over(self) -> bool:
        return self.state in FINAL and not self.events and not self.points

    @property
    def is_all(self) -> bool:
        """Return whether nothing more is known to exist: the job runs, and no batch was full."""
        return self.state not in FINAL and max(len(self.events), len(self.points)) < BATCH


def look(session: Session, project_id: str, job_id: str, place: StreamCursor) -> StreamBatch:
    """Read what PostgreSQL holds beyond `place`. The state is read first: if it is final, nothing can follow."""
    jobs = JobRepository(session)
    state = JobState(jobs.get(project_id, job_id).state)
    events = jobs.events(project_id, job_id, place.event, BATCH)
    points = MetricRepository(session).after(project_id, job_id, place.attempt, place.point, BATCH)
    return StreamBatch(state, [EventOut.model_validate(event) for event in events], points)


class AccessCheck:
    """Checks every few seconds whether a stream's reader is still allowed to read it."""

    def __init__(self, is_allowed: Callable[[], Awaitable[bool]]) -> None:
        self._is_allowed, self._checked_at = is_allowed, time.monotonic()

    async def is_allowed(self) -> bool:
        if time.monotonic() - self._checked_at < CHECK_SECONDS:
            return True
        self._checked_at = time.monotonic()
        return await self._is_allowed()


async def follow(
    sessions: Sessions,
    client: redis.asyncio.Redis,
    project_id: str,
    job_id: str,
    place: StreamCursor,
    first: StreamBatch,
    is_allowed: Callable[[], Awaitable[bool]],
) -> AsyncIterator[bytes]:
    """Yield the stream's bytes until the job is final and everything was sent, the job is deleted, or its reader is no
    longer allowed to read it. `first` is what already existed beyond `place`."""
    yield format_sse_event(retry=2000)
    for reached, line in _format_batch(first, place):
        place = reached
        yield line
    sent_at = time.monotonic()
    access = AccessCheck(is_allowed)
    while await access.is_allowed():
        position = await _find_newest_live(client, job_id)
        found = await run_in_threadpool(_look_again, sessions, project_id, job_id, place)
        if found is None:
            return
        for reached, line in _format_batch(found, place):
            place, sent_at = reached, time.monotonic()
            yield line
        if found.is_over:
            yield format_sse_event(event="end", data_str=f'{{"state":"{found.state}"}}', id=place.encode())
            return
        if not found.is_all:
            continue
        async for point in _read_live_points(client, job_id, position, place):
            place = place.past(point)
            sent_at = time.monotonic()
            yield _format_point(point, place)
        if time.monotonic() - sent_at > PING_SECONDS:
            sent_at = time.monotonic()
            yield format_sse_event(comment="ping")


def _look_again(sessions: Sessions, project_id: str, job_id: str, place: StreamCursor) -> StreamBatch | None:
    """Return None if the job was deleted."""
    try:
        with transaction(sessions, "follow") as session:
            return look(session, project_id, job_id, place)
    except JobNotFound:
        return None


def _format_batch(found: StreamBatch, place: StreamCursor) -> Iterator[tuple[StreamCursor, bytes]]:
    for event in found.events:
        place = place._replace(event=event.number)
        yield place, format_sse_event(event="job_event", data_str=event.model_dump_json(), id=place.encode())
    for point in found.points:
        place = place.past(point)
        yield place, _format_point(point, place)


def _format_point(point: MetricPoint, place: StreamCursor) -> bytes:
    return format_sse_event(event="metrics", data_str=point.model_dump_json(), id=place.encode())


async def _find_newest_live(client: redis.asyncio.Redis, job_id: str) -> str | None:
    try:
        return await newest_live(client, job_id)
    except RedisError:
        return None


async def _read_live_points(
    client: redis.asyncio.Redis, job_id: str, position: str | None, place: StreamCursor
) -> AsyncIterator[MetricPoint]:
    """Yield the points that follow `place` without a gap as Redis delivers them, until PostgreSQL must be read
    again."""
    until = time.monotonic() + LOOK_SECONDS
    while (left := until - time.monotonic()) > 0:
        if position is None:
            await asyncio.sleep(left)
            return
        try:
            position, points = await read_live(client, job_id, position, left)
        except RedisError:
            position = None
            continue
        for point in points:
            if (point.attempt, point.number) == (place.attempt, place.point + 1):
                place = place.past(point)
                yield point
