"""Lets requests wait until a job changes. A waiting request holds neither a thread nor a connection.

One task per process queries PostgreSQL twice a second for which of the awaited jobs were written, in one statement per
project, and wakes their requests. It queries nothing while no request waits, and needs no Redis.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import structlog
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from app.web.errors import TooManyWaiting

log = structlog.get_logger()
LOOK_SECONDS: Final = 0.5
QUEUE_SECONDS: Final = 2.0
"""Sets the time after which a request reads a queued job again, whose position and wait reason change without its
row."""
MOST_WAITING: Final = 1000
"""Limits the waiting requests of one process."""


class Seen(Protocol):
    """Represents a job as it was shown last."""

    @property
    def version(self) -> str: ...
    @property
    def is_queued(self) -> bool: ...


SeenT = TypeVar("SeenT", bound=Seen)
FindVersions = Callable[[str, Sequence[str]], dict[str, str]]


@dataclass(eq=False)
class Waiter:
    version: str
    woken: asyncio.Event


class JobWaits:
    """Belongs to one event loop."""

    def __init__(self, find_versions: FindVersions) -> None:
        self._find_versions = find_versions
        self._waiters: dict[tuple[str, str], set[Waiter]] = defaultdict(set)
        self._num_waiting = 0
        self._looking: asyncio.Task[None] | None = None
        self._is_closed = False

    async def until_changed(
        self,
        project_id: str,
        job_id: str,
        seen: SeenT,
        look: Callable[[], Awaitable[SeenT]],
        *,
        is_same: Callable[[SeenT], bool],
        seconds: float,
        gone: Callable[[], Awaitable[None]],
    ) -> SeenT:
        """Return what `look` finds once it has changed, or after `seconds`. Raise TooManyWaiting if the maximum number
        is waiting. Return at once when the server stops, or when the client has `gone`."""
        until = time.monotonic() + seconds
        with self._counted():
            leaving = asyncio.ensure_future(gone())
            try:
                while is_same(seen) and not self._is_closed and not leaving.done():
                    left = until - time.monotonic()
                    if left <= 0:
                        break
                    pause = min(left, QUEUE_SECONDS) if seen.is_queued else left
                    await self._wait((project_id, job_id), seen.version, pause, leaving)
                    if not leaving.done():
                        seen = await look()
            finally:
                leaving.cancel()
        return seen

    def close(self) -> None:
        """End the wait of every request with what it knows; later requests do not wait."""
        self._is_closed = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.woken.set()
        if self._looking is not None:
            self._looking.cancel()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._num_waiting >= MOST_WAITING:
            raise TooManyWaiting
        self._num_waiting += 1
        try:
            yield
        finally:
            self._num_waiting -= 1

    async def _wait(self, key: tuple[str, str], version: str, seconds: float, leaving: asyncio.Future[Any]) -> None:
        waiter = Waiter(version, asyncio.Event())
        waking: asyncio.Future[Any] = asyncio.ensure_future(waiter.woken.wait())
        self._waiters[key].add(waiter)
        if self._looking is None:
            self._looking = asyncio.create_task(self._poll())
        try:
            await asyncio.wait({waking, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
            self._waiters[key].discard(waiter)
            if not self._waiters[key]:
                del self._waiters[key]

    async def _poll(self) -> None:
        """Query for changes while a request waits."""
        try:
            while self._waiters and not self._is_closed:
                await asyncio.sleep(LOOK_SECONDS)
                try:
                    await self._wake_changed()
                except SQLAlchemyError:
                    log.warning("PostgreSQL is not available; requests keep waiting for changes")
        finally:
            self._looking = None

    async def _wake_changed(self) -> None:
        by_project: dict[str, list[str]] = defaultdict(list)
        for project_id, job_id in self._waiters:
            by_project[project_id].append(job_id)
        for project_id, job_ids in by_project.items():
            versions = await run_in_threadpool(self._find_versions, project_id, job_ids)
            for job_id in job_ids:
                # A deleted job has no version, and its requests must report that too.
                for waiter in self._waiters.get((project_id, job_id), ()):
                    if waiter.version != versions.get(job_id):
                        waiter.woken.set()
