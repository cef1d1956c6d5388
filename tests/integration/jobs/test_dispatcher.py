import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import func, make_url, select, text
from sqlalchemy.exc import DBAPIError

from app import outbox
from app.db.session import Sessions, connect, is_outage, open_sessions, transaction
from app.db.tables import Job, OutboxRow
from app.dispatcher import Dispatcher
from app.domain.jobs.state import JobState
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.settings import Settings

LEASE_SECONDS = 3.0


def test_more_wakeups_than_a_batch_are_all_relayed(settings: Settings, sessions: Sessions, project_id: str) -> None:
    count = 2 * outbox.BATCH + 50
    with transaction(sessions) as session:
        for _ in range(count):
            outbox.enqueue_wakeup(session, project_id, "training")
    Path(settings.data_dir).mkdir(exist_ok=True)
    Dispatcher(settings, sessions).relay()
    with transaction(sessions) as session:
        assert session.scalar(select(func.count()).select_from(OutboxRow)) == 0
    with redis.Redis.from_url(settings.redis_url) as client:
        assert client.llen("training") == count


@contextmanager
def outage(database_url: str) -> Iterator[None]:
    """Close every connection to the database, and refuse new ones."""
    url = make_url(database_url)
    server = {"host": url.query["host"], "user": "postgres", "dbname": "postgres", "autocommit": True}
    with psycopg.connect(**server) as admin:
        admin.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [url.database])
        yield
        admin.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true")


@pytest.fixture
def dispatcher(settings: Settings, sessions: Sessions) -> Dispatcher:
    """A dispatcher that has run for longer than a lease."""
    settings.data_dir.mkdir(exist_ok=True)
    found = Dispatcher(settings.model_copy(update={"lease_seconds": LEASE_SECONDS}), sessions)
    found.recovery_starts_at = 0
    return found


def recover_for(dispatcher: Dispatcher, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(DBAPIError):
            dispatcher.recover_lost_work()
        time.sleep(0.05)


def recover_until(dispatcher: Dispatcher, holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        dispatcher.recover_lost_work()
        time.sleep(0.05)


def test_recovery_waits_a_full_lease_after_an_outage(
    database_url: str,
    dispatcher: Dispatcher,
    sessions: Sessions,
    post: Callable[..., str],
    claim: Callable[..., Claim],
    state_of: Callable[[str], JobState],
) -> None:
    """The time counts from the end of the outage, not from the moment at which recovery noticed it."""
    id = post()
    held = claim(lease_seconds=LEASE_SECONDS)
    with outage(database_url):
        with pytest.raises(DBAPIError):
            dispatcher.recover_lost_work()
        recover_for(dispatcher, 0.9 * LEASE_SECONDS)
    recover_for(dispatcher, 0.3 * LEASE_SECONDS)
    assert state_of(id) is JobState.running
    with transaction(sessions) as session:
        assert QueueService(session).renew(held, LEASE_SECONDS) is JobState.running
    recover_until(dispatcher, lambda: state_of(id) is JobState.queued)  # its worker sends no more heartbeats


def test_a_broken_connection_is_no_outage(
    dispatcher: Dispatcher,
    sessions: Sessions,
    post: Callable[..., str],
    claim: Callable[..., Claim],
    state_of: Callable[[str], JobState],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    id = post()
    claim(lease_seconds=0)

    def recover_as_it_breaks(self: QueueService, *_: object) -> list[Job]:
        self.session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(QueueService, "recover_lost_work", recover_as_it_breaks)
        with pytest.raises(DBAPIError):
            dispatcher.recover_lost_work()
    dispatcher.recover_lost_work()
    assert state_of(id) is JobState.queued


def test_a_worker_that_freezes_in_the_middle_of_a_write_does_not_keep_its_job(
    database_url: str,
    dispatcher: Dispatcher,
    post: Callable[..., str],
    claim: Callable[..., Claim],
    state_of: Callable[[str], JobState],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When the worker wakes, it treats its ended transaction as an outage."""
    id = post()
    held = claim(lease_seconds=0.1)
    monkeypatch.setattr("app.db.session.SILENT_TRANSACTION", "3s")
    engine = connect(database_url)
    with open_sessions(engine)() as frozen:
        QueueService(frozen).renew(held, LEASE_SECONDS)
        time.sleep(0.1)
        dispatcher.recover_lost_work()
        assert state_of(id) is JobState.running, "its row is locked"
        recover_until(dispatcher, lambda: state_of(id) is JobState.queued)
        with pytest.raises(DBAPIError) as caught:
            frozen.commit()
    assert is_outage(caught.value)
    engine.dispose()
