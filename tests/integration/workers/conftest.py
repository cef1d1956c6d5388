from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import make_url


@pytest.fixture
def outage(database_url: str) -> Callable[[], object]:
    """Return a context in which PostgreSQL is unreachable: connections are ended, and new ones are refused."""
    url = make_url(database_url)
    server = {"host": url.query["host"], "user": "postgres", "dbname": "postgres", "autocommit": True}

    @contextmanager
    def cut() -> Iterator[None]:
        with psycopg.connect(**server) as admin:
            admin.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false")
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [url.database])
            try:
                yield
            finally:
                admin.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true")

    return cut
