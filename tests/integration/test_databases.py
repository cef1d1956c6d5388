"""Each test finds a clean database, whatever an earlier test left in it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from app.db.session import open_sessions, transaction
from app.outbox import enqueue_wakeup
from app.projects.lookup import find_or_create_project
from tests.fixtures.databases import KeptDatabase, as_owner, name_of

Change = Callable[..., None]


@pytest.fixture
def kept(migrated_url: str) -> Iterator[KeptDatabase]:
    kept = KeptDatabase(migrated_url)
    yield kept
    kept.drop()


@pytest.fixture
def change(kept: KeptDatabase) -> Change:
    def change(*statements: str) -> None:
        engine = create_engine(kept.url)
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()

    return change


def scalar(engine: Engine, query: str) -> Any:
    with engine.connect() as connection:
        return connection.execute(text(query)).scalar()


def test_cleaning_deletes_rows_and_resets_sequences(kept: KeptDatabase) -> None:
    url = kept.url
    for _ in range(2):
        engine = create_engine(kept.url)
        with transaction(open_sessions(engine)) as session:
            enqueue_wakeup(session, find_or_create_project(session, "default"), "training")
        assert scalar(engine, "SELECT max(id) FROM outbox") == 1
        engine.dispose()
        kept.clean()
        assert kept.url == url
    engine = create_engine(kept.url)
    assert scalar(engine, "SELECT count(*) FROM projects") == scalar(engine, "SELECT count(*) FROM outbox") == 0
    assert scalar(engine, "SELECT count(*) FROM alembic_version") == 1
    engine.dispose()


@pytest.mark.parametrize(
    "statements",
    [
        ("ALTER TABLE jobs RENAME COLUMN step TO steps",),
        ("ALTER TABLE jobs DISABLE TRIGGER USER",),
        ("CREATE INDEX more ON jobs (step)",),
        ("DROP TABLE outbox",),
        ("CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'",),
        ("INSERT INTO projects (id, name) VALUES ('proj-1', 'one')", "ANALYZE projects"),
    ],
)
def test_cleaning_replaces_a_database_whose_schema_or_statistics_changed(
    kept: KeptDatabase, change: Change, statements: tuple[str, ...]
) -> None:
    url = kept.url
    change(*statements)
    kept.clean()
    assert kept.url != url
    change("SELECT step FROM jobs", "SELECT id FROM outbox")
    url = kept.url
    kept.clean()
    assert kept.url == url


def test_cleaning_replaces_a_database_with_an_open_connection(kept: KeptDatabase) -> None:
    url, engine = kept.url, create_engine(kept.url)
    with engine.connect():
        kept.clean()
    assert kept.url != url
    engine.dispose()


def test_cleaning_works_after_all_connections_were_terminated(kept: KeptDatabase, change: Change) -> None:
    with as_owner(kept.url, "postgres") as owner:
        owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name_of(kept.url)])
    kept.clean()
    change("SELECT 1")
