"""Watches all jobs of a project, for the streams of lists: one watcher per project and process feeds all of them."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from weakref import WeakSet

import structlog
from fastapi.concurrency import run_in_threadpool

from app.jobs.watching.project_news import Known, ListedJob, ProjectNews
from app.jobs.watching.watcher import StreamReader

log = structlog.get_logger()
LOOK_SECONDS: Final = 1.0
KEPT_SECONDS: Final = 60.0
"""Sets the time for which a change is kept for slow readers."""


class Change(NamedTuple):
    number: int
    kind: str
    job_id: str
    data: str
    made_at: float


class ProjectWatcher:
    """Belongs to one event loop. Of each job that changed, it keeps the latest change only: a slow reader skips those
    before."""

    def __init__(self, project_id: str, find_changes: Callable[[str, Known], ProjectNews]) -> None:
        self.project_id, self._find_changes = project_id, find_changes
        self.readers: WeakSet[StreamReader] = WeakSet()
        self.is_broken = False
        self.num_changes = 0
        self.num_forgotten = 0
        """Is the number of the last change that is no longer kept."""
        self._known = Known({}, frozenset(), None)
        self._listed: dict[str, ListedJob] = {}
        self._changes: dict[str, Change] = {}
        """Holds the latest change of each job, the oldest first."""
        self.loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.polling = asyncio.create_task(self._poll())

    def list_jobs(self) -> list[ListedJob]:
        """Return the jobs that are not final, the newest first."""
        return sorted(self._listed.values(), key=lambda job: (job.created_at, job.id), reverse=True)

    def changes_since(self, number: int) -> list[Change]:
        return list(self._newer(number))[::-1]

    def wake(self) -> None:
        for reader in self.readers:
            reader.woken.set()

    async def _poll(self) -> None:
        """Look for changes while somebody reads."""
        try:
            while not self.loaded.done() or self.readers:
                next_at = time.monotonic() + LOOK_SECONDS
                self._learn(await run_in_threadpool(self._find_changes, self.project_id, self._known))
                if not self.loaded.done():
                    self.loaded.set_result(None)
                await asyncio.sleep(max(next_at - time.monotonic(), 0))
        except Exception as error:  # whatever it is, no stream may wait forever
            log.warning("streams of a project end because its jobs cannot be read", exc_info=error)
            self.is_broken = True
            self.wake()
            if not self.loaded.done():
                self.loaded.set_exception(error)
                self.loaded.exception()  # its request may be gone

    def _learn(self, news: ProjectNews) -> None:
        is_first, num_changes = self._known.wanted is None, self.num_changes
        self._known = news.known
        for job in news.jobs:
            before = self._listed.pop(job.id, None)
            if not job.is_final and job.id in (news.known.wanted or ()):
                self._listed[job.id] = job
            if not is_first and job.is_news and (before is None or before.data != job.data):
                self._add("job", job.id, job.data)
        for id in news.deleted:
            self._listed.pop(id, None)
            self._add("deleted", id, f'{{"job_id":"{id}"}}')
        self._listed = {id: job for id, job in self._listed.items() if id in (news.known.wanted or ())}
        self._forget(time.monotonic() - KEPT_SECONDS)
        if self.num_changes > num_changes:
            self.wake()

    def _add(self, kind: str, job_id: str, data: str) -> None:
        self.num_changes += 1
        self._changes.pop(job_id, None)
        self._changes[job_id] = Change(self.num_changes, kind, job_id, data, time.monotonic())

    def _forget(self, before: float) -> None:
        for change in list(self._changes.values()):
            if change.made_at >= before:
                break
            del self._changes[change.job_id]
            self.num_forgotten = change.number

    def _newer(self, number: int) -> Iterator[Change]:
        for change in reversed(self._changes.values()):
            if change.number <= number:
                break
            yield change


class ProjectHub:
    """Belongs to one event loop."""

    def __init__(self, find_changes: Callable[[str, Known], ProjectNews]) -> None:
        self._find_changes = find_changes
        self._watchers: dict[str, ProjectWatcher] = {}
        self.is_closed = False

    async def watch(self, reader: StreamReader, project_id: str) -> ProjectWatcher:
        """Let the reader be woken by the project's jobs. Return their watcher once it knows them."""
        watcher = self._watchers.get(project_id)
        if watcher is None or watcher.polling.done():
            watcher = self._watchers[project_id] = ProjectWatcher(project_id, self._find_changes)
            watcher.polling.add_done_callback(lambda _: self._drop(watcher))
        watcher.readers.add(reader)
        await asyncio.shield(watcher.loaded)
        return watcher

    def close(self) -> None:
        self.is_closed = True
        for watcher in self._watchers.values():
            watcher.wake()

    async def stop(self) -> None:
        self.close()
        tasks = [watcher.polling for watcher in self._watchers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drop(self, watcher: ProjectWatcher) -> None:
        if self._watchers.get(watcher.project_id) is watcher:
            del self._watchers[watcher.project_id]
