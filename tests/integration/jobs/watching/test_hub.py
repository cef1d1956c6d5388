"""What the streams of one process share, and what a slow or forgotten reader costs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio
from sqlalchemy.exc import OperationalError

from app.db.session import Reads, Sessions
from app.jobs.watching import ring
from app.jobs.watching.access import AccessCheck
from app.jobs.watching.cursors import StreamCursor
from app.jobs.watching.framing import OneJob
from app.jobs.watching.hub import JobHub
from app.jobs.watching.news import Found, find_news
from app.jobs.watching.streaming import Part, stream_parts
from app.jobs.watching.watcher import StreamReader
from app.live_metrics import connect_async
from app.settings import Settings


@pytest.fixture
def reads(database_url: str) -> Iterator[Reads]:
    reads = Reads(database_url)
    yield reads
    reads.close()


class Process:
    """Represents the part of a server process that streams jobs. Counts its look-ups."""

    def __init__(self, reads: Reads, client: redis.asyncio.Redis, sessions: Sessions, project_id: str) -> None:
        self.reads, self.sessions, self.project_id = reads, sessions, project_id
        self.hub = JobHub(self.find_news, client)
        self.asked: list[int] = []
        self.is_away = False

    def find_news(self, asked: Any) -> list[Found | None]:
        self.asked.append(len(asked))
        if self.is_away:
            raise OperationalError("SELECT", {}, Exception("the server is away"))
        return self.reads.ask(lambda connection: find_news(connection, asked))

    async def open(self, *ids: str, reader: StreamReader | None = None) -> AsyncIterator[bytes]:
        reader = reader or StreamReader(wants_values=False)
        watchers = await self.hub.watch(reader, self.project_id, ids)
        parts = [Part(each, StreamCursor(), OneJob(), shows_values=False) for each in watchers]
        return stream_parts(self.hub, self.sessions, reader, parts, AccessCheck(allow))


async def allow() -> bool:
    return True


def test_a_slow_reader_gets_everything_once_and_holds_nothing(
    process: Callable[[], Any], work: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring, "KEPT", 4)
    held = work()

    async def read() -> None:
        async with process() as one:
            slow, quick = await one.open(held.id), await one.open(held.id)
            await anext(slow)
            numbers: list[int] = []
            for _ in range(5):
                await asyncio.to_thread(held.record, 7)
                while numbers[-1:] != [held.num_points]:
                    numbers += points_in(await anext(quick))
            [watcher] = one.hub._watchers.values()
            assert watcher.ring.end - watcher.ring.first < 8
            assert watcher.ring.first > 0
            await asyncio.to_thread(held.fail)
            late = [number async for chunk in slow for number in points_in(chunk)]
            assert (numbers, late) == (list(range(1, 36)), list(range(1, 36)))

    asyncio.run(read())


def points_in(chunk: bytes) -> list[int]:
    ids = [line.removeprefix(b"id: ") for line in chunk.splitlines() if line.startswith(b"id: ")]
    kinds = [line.removeprefix(b"event: ") for line in chunk.splitlines() if line.startswith(b"event: ")]
    return [int(id.split(b".")[2]) for kind, id in zip(kinds, ids, strict=True) if kind == b"metrics"]


def test_many_streams_ask_once_a_second_in_one_question(process: Callable[[], Any], work: Callable[..., Any]) -> None:
    ids = [work().id, work().id]

    async def read() -> None:
        async with process() as one:
            streams = [await one.open(*ids) for _ in range(40)]
            reading = [asyncio.create_task(drain(stream)) for stream in streams]
            await asyncio.sleep(0.5)
            del one.asked[:]
            await asyncio.sleep(3.2)
            assert one.asked in ([2] * 3, [2] * 4)
            for each in reading:
                each.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
            await asyncio.sleep(1.5)
            del one.asked[:]
            await asyncio.sleep(1.5)
            assert one.asked == []

    asyncio.run(read())


async def drain(stream: AsyncIterator[bytes]) -> list[bytes]:
    return [chunk async for chunk in stream]


def test_a_stream_that_nobody_reads_is_forgotten(process: Callable[[], Any], work: Callable[..., Any]) -> None:
    held = work()

    async def read() -> None:
        async with process() as one:
            await one.open(held.id)  # the client has left before the answer began
            await asyncio.sleep(1.5)
            assert one.hub._watchers == {}

    asyncio.run(read())


def test_streams_end_while_postgres_is_away_and_work_again_afterwards(
    process: Callable[[], Any], work: Callable[..., Any]
) -> None:
    held = work()
    held.record(2)

    async def read() -> None:
        async with process() as one:
            reading = asyncio.create_task(drain(await one.open(held.id)))
            await asyncio.sleep(0.1)
            one.is_away = True
            assert b"event: end" not in b"".join(await asyncio.wait_for(reading, 5))
            with pytest.raises(OperationalError):
                await one.open(held.id)
            one.is_away = False
            held.fail()
            assert b"".join(await drain(await one.open(held.id))).count(b"event: metrics") == 2

    asyncio.run(read())


def test_a_process_that_stops_ends_its_streams_at_once(process: Callable[[], Any], work: Callable[..., Any]) -> None:
    held = work()

    async def read() -> None:
        async with process() as one:
            reading = [asyncio.create_task(drain(await one.open(held.id))) for _ in range(3)]
            await asyncio.sleep(0.2)
            began = time.monotonic()
            one.hub.close()
            streams = await asyncio.gather(*reading)
            assert not [chunk for chunks in streams for chunk in chunks if b"event: end" in chunk]
            assert time.monotonic() - began < 0.5

    asyncio.run(read())


def test_a_question_that_fails_for_one_reader_fails_for_all_who_wait(
    process: Callable[[], Any], work: Callable[..., Any]
) -> None:
    held = work()

    async def read() -> None:
        async with process() as one:
            one.is_away = True
            tries = [one.open(held.id) for _ in range(3)]
            found = await asyncio.gather(*tries, return_exceptions=True)
            assert [type(each) for each in found] == [OperationalError] * 3

    asyncio.run(read())


@pytest.fixture
def process(reads: Reads, settings: Settings, sessions: Sessions, project_id: str) -> Callable[[], Any]:
    @asynccontextmanager
    async def running() -> AsyncIterator[Process]:
        client = connect_async(settings.redis_url)
        one = Process(reads, client, sessions, project_id)
        yield one
        await one.hub.stop()
        await client.aclose()

    return running
