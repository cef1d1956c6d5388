"""Engines and sessions. Synchronous everywhere, so that server, dispatcher and worker share one service layer."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from app.domain.failpoint import reach

Sessions = sessionmaker[Session]


def connect(database_url: str, pool_size: int = 10) -> Engine:
    return create_engine(
        database_url,
        pool_size=pool_size,
        max_overflow=20,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 10, "options": "-c timezone=UTC"},
    )


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
