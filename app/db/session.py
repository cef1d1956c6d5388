"""Creates engines and sessions. They are synchronous, so that server, dispatcher and worker share one service layer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from app.failpoints import reach

Sessions = sessionmaker[Session]
T = TypeVar("T")

SILENT_NETWORK = {"tcp_user_timeout": 20_000, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""Ends a connection to a silent server (a cut cable, a dead host) after half a minute, instead of the kernel's quarter
of an hour: a heartbeat must not hang for longer than a lease."""

SILENT_TRANSACTION = "30s"
"""Limits the time for which a frozen or dead client in the middle of a transaction keeps its rows locked, instead of
TCP's hours. The service's transactions wait only for the database; a lease is longer."""


def connect(database_url: str, pool_size: int = 10) -> Engine:
    return create_engine(
        database_url,
        pool_size=pool_size,
        max_overflow=20,
        pool_pre_ping=True,
        hide_parameters=True,  # errors show the statement, but no secret that was to be stored
        connect_args=connect_args(),
    )


def connect_args() -> dict[str, Any]:
    options = f"-c timezone=UTC -c idle_in_transaction_session_timeout={SILENT_TRANSACTION}"
    return {"connect_timeout": 10, "options": options} | SILENT_NETWORK


def open_sessions(engine: Engine) -> Sessions:
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(sessions: Sessions, step: str = "commit") -> Iterator[Session]:
    """Run one transaction: commit at the end, roll back on an exception. `step` names its failpoints."""
    with sessions() as session:
        with session.begin():
            yield session
            reach(f"before_{step}")
        reach(f"after_{step}")


def hold_snapshot(session: Session) -> None:
    """Let all statements of the session's transaction, which only read, see the same data. Call it before the first
    one."""
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    session.connection(execution_options=options)


def is_outage(error: DBAPIError) -> bool:
    """Say whether PostgreSQL is away, busy or out of resources, so that the statement is not at fault."""
    return error.connection_invalidated or isinstance(error, OperationalError)


class Reads:
    """Runs queries that change nothing. Each statement is one round trip: no BEGIN, no COMMIT, and no ping before it.

    A broken connection is replaced, and the query is repeated once."""

    def __init__(self, database_url: str, pool_size: int = 5) -> None:
        self._engine = create_engine(
            database_url,
            pool_size=pool_size,
            max_overflow=pool_size,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            skip_autocommit_rollback=True,
            pool_reset_on_return=None,  # nothing is left open that a reset could end
            connect_args=connect_args(),
        )

    def ask(self, question: Callable[[Connection], T]) -> T:
        try:
            return self._asked(question)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        # By now the pool has closed all connections that were open with the broken one.
        return self._asked(question)

    def _asked(self, question: Callable[[Connection], T]) -> T:
        with self._engine.connect() as connection:
            return question(connection)

    def close(self) -> None:
        self._engine.dispose()
