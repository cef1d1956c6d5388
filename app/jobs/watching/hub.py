"""Watches jobs for all streams of a process: PostgreSQL is asked once a second about all of them in one statement, and
Redis is waited for in one command. Nothing is asked while nobody reads."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

import redis.asyncio
import structlog
from fastapi.concurrency import run_in_threadpool
from redis.exceptions import RedisError

from app.jobs.watching.news import Asked, Found
from app.jobs.watching.watcher import JobWatcher, StreamReader
from app.live_metrics import read_live, read_newest

log = structlog.get_logger()
LOOK_SECONDS: Final = 1.0
LIVE_SECONDS: Final = 0.5
"""Limits the wait for points in Redis, after which newly watched jobs are waited for too."""
MOST_RECENT: Final = 200
"""Limits the points that are read from Redis when a job is first watched, because PostgreSQL may not have them yet."""

FindNews = Callable[[Sequence[Asked]], list[Found | None]]


class JobHub:
    """Belongs to one event loop."""

    def __init__(self, find_news: FindNews, client: redis.asyncio.Redis) -> None:
        self._find_news, self._redis = find_news, client
        self._watchers: dict[tuple[str, str], JobWatcher] = {}
        self._requested: dict[JobWatcher, asyncio.Future[None]] = {}
        self._woken = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self.is_closed = False

    async def watch(self, reader: StreamReader, project_id: str, job_ids: Iterable[str]) -> list[JobWatcher]:
        """Let the reader be woken by these jobs. Return their watchers after a look that began now."""
        watchers = [self._find_watcher(project_id, job_id) for job_id in job_ids]
        for watcher in watchers:
            watcher.readers.add(reader)
        looks = [self._request_look(watcher) for watcher in watchers]
        # Other readers may wait for the same looks.
        await asyncio.gather(*(asyncio.shield(each) for each in looks))
        return watchers

    def close(self) -> None:
        """End every stream, because the server stops. Clients continue on another one."""
        self.is_closed = True
        for watcher in self._watchers.values():
            watcher.wake()

    async def stop(self) -> None:
        self.close()
        tasks = [task for task in (self._polling, self._listening) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _find_watcher(self, project_id: str, job_id: str) -> JobWatcher:
        key = (project_id, job_id)
        watcher = self._watchers.get(key)
        if watcher is None or watcher.is_gone:
            watcher = self._watchers[key] = JobWatcher(project_id, job_id)
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll())
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        return watcher

    def _request_look(self, watcher: JobWatcher) -> asyncio.Future[None]:
        look = self._requested.get(watcher)
        if look is None:
            look = self._requested[watcher] = asyncio.get_running_loop().create_future()
            self._woken.set()
        return look

    async def _poll(self) -> None:
        """Look for news once a second, and at once for a new reader."""
        next_at = time.monotonic()
        while self._watchers:
            await self._sleep_until(next_at)
            now = time.monotonic()
            is_due = now >= next_at
            if is_due:
                next_at = now + LOOK_SECONDS
                self._drop_unread()
            await self._look(now, is_due)

    async def _sleep_until(self, at: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(at - time.monotonic(), 0)):
                await self._woken.wait()
        self._woken.clear()

    def _drop_unread(self) -> None:
        for key, watcher in list(self._watchers.items()):
            if not watcher.readers and watcher not in self._requested:
                del self._watchers[key]

    async def _look(self, now: float, is_due: bool) -> None:
        """Look for news of all watched jobs if that is due, else only of those for which it was requested."""
        requested, self._requested = self._requested, {}
        watchers = [each for each in (self._watchers.values() if is_due else requested) if not each.is_gone]
        asked = [watcher.ask(now) for watcher in watchers]
        try:
            news = await run_in_threadpool(self._find_news, asked) if asked else []
        except Exception as error:  # whatever it is, no stream may wait forever
            self._fail(error, requested.values())
            return
        for watcher, found in zip(watchers, news, strict=True):
            if not watcher.learn(found, now):
                self._request_look(watcher)
            if is_due:
                watcher.announce(now)
        for look in requested.values():
            look.set_result(None)

    def _fail(self, error: Exception, looks: Iterable[asyncio.Future[None]]) -> None:
        """End all streams. Clients reconnect, and are refused until PostgreSQL answers."""
        log.warning("streams end because jobs cannot be read", exc_info=error)
        for watcher in self._watchers.values():
            watcher.fail()
        self._watchers.clear()
        for look in looks:
            look.set_exception(error)
            look.exception()  # its request may be gone

    async def _listen(self) -> None:
        """Pass on points as Redis delivers them. Without Redis, PostgreSQL delivers them."""
        while self._watchers:
            live = {watcher.job_id: watcher for watcher in self._watchers.values() if watcher.is_live}
            try:
                if live:
                    await self._read_newest([each for each in live.values() if each.live_position is None])
                    positions = {each.job_id: each.live_position or "0" for each in live.values()}
                    for job_id, (position, points) in (await read_live(self._redis, positions, LIVE_SECONDS)).items():
                        live[job_id].learn_live(position, points)
                else:
                    await asyncio.sleep(LIVE_SECONDS)
            except RedisError:
                for watcher in live.values():
                    watcher.live_position = None
                await asyncio.sleep(LOOK_SECONDS)

    async def _read_newest(self, watchers: Sequence[JobWatcher]) -> None:
        """Read the last points of jobs that are newly watched: PostgreSQL may not have them yet."""
        if watchers:
            newest = await read_newest(self._redis, [watcher.job_id for watcher in watchers], MOST_RECENT)
            for watcher in watchers:
                watcher.learn_live(*newest[watcher.job_id])
