"""Streams a project's list of jobs, and its changes, to one reader."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from app.jobs.watching.access import AccessCheck
from app.jobs.watching.framing import PING, RETRY
from app.jobs.watching.project_watcher import Change, ProjectHub, ProjectWatcher
from app.jobs.watching.streaming import PING_SECONDS, wait
from app.jobs.watching.watcher import StreamReader

JOBS_A_TURN: Final = 16


async def stream_project(
    hub: ProjectHub, reader: StreamReader, watcher: ProjectWatcher, access: AccessCheck
) -> AsyncIterator[bytes]:
    """Yield the jobs that are not final, then each change, until the reader is no longer allowed to read, is too slow,
    or the server stops."""
    listed, number = watcher.list_jobs(), watcher.num_changes
    yield RETRY
    try:
        for lines in _in_turns([_frame("job", job.data) for job in listed]):
            yield lines
        yield _frame("listed", f'{{"count":{len(listed)}}}')
        sent_at = time.monotonic()
        while not (hub.is_closed or watcher.is_broken) and await access.is_allowed():
            reader.woken.clear()
            if number < watcher.num_forgotten:
                return
            changes = watcher.changes_since(number)
            for some in _few(changes):
                yield b"".join(_frame(change.kind, change.data) for change in some)
                number, sent_at = some[-1].number, time.monotonic()
            if not changes:
                if time.monotonic() >= sent_at + PING_SECONDS:
                    yield PING
                    sent_at = time.monotonic()
                await wait(reader, min(access.due_at, sent_at + PING_SECONDS))
    finally:
        watcher.readers.discard(reader)


def _frame(kind: str, data: str) -> bytes:
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _in_turns(lines: Sequence[bytes]) -> Iterator[bytes]:
    for start in range(0, len(lines), JOBS_A_TURN):
        yield b"".join(lines[start : start + JOBS_A_TURN])


def _few(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    for start in range(0, len(changes), JOBS_A_TURN):
        yield changes[start : start + JOBS_A_TURN]
