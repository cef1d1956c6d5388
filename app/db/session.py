"""Engines and sessions. Synchronous everywhere, so that server, dispatcher and worker share one service layer."""

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
"""A server that a cut cable or a dead host has silenced is given up after half a minute, and not after the kernel's
quarter of an hour: a heartbeat must not hang for longer than a lease."""

SILENT_TRANSACTION = "30s"
"""The other way round: a program that is frozen, or whose host died, in the middle of a transaction keeps its rows no
longer than that, and not for the hours that TCP gives it. Ours wait for nothing but the database; a lease is longer."""


def connect(database_url: str, pool_size: int = 10) -> Engine:
    return create_engine(
        database_url,
        pool_size=pool_size,
        max_overflow=20,
        pool_pre_ping=True,
        hide_parameters=True,  # errors tell the statement, and no secret that was to be stored
        connect_args=connect_args(),
    )


def connect_args() -> dict[str, Any]:
    options = f"-c timezone=UTC -c idle_in_transaction_session_timeout={SILENT_TRANSACTION}"
    return {"connect_timeout": 10, "options": options} | SILENT_NETWORK


def open_sessions(engine: Engine) -> Sessions:
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(sessions: Sessions, step: str = "commit") -> Iterator[Session]:
    """One transaction: committed at the end, rolled back by an exception. `step` names its failpoints."""
    with sessions() as session:
        with session.begin():
            yield session
            reach(f"before_{step}")
        reach(f"after_{step}")


def is_outage(error: DBAPIError) -> bool:
    """Whether PostgreSQL is away, busy or out of resources, and not the statement at fault."""
    return error.connection_invalidated or isinstance(error, OperationalError)


class Reads:
    """Questions that change nothing. Each statement is one round trip: no BEGIN, no COMMIT, and no ping before it.

    A connection that turns out broken is replaced, and the question is asked once more."""

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
        # All connections that were open with the broken one are given up by now.
        return self._asked(question)

    def _asked(self, question: Callable[[Connection], T]) -> T:
        with self._engine.connect() as connection:
            return question(connection)

    def close(self) -> None:
        self._engine.dispose()
