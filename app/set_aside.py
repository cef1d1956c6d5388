"""Skips rows on which a duty of the dispatcher failed for a while, so that one row delays no other."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final, NamedTuple

import structlog
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.db.session import is_outage
from app.logs import frames_of
from app.storage import FAILURES as STORAGE_FAILURES

log = structlog.get_logger()

OUTAGES: Final = (RedisError, BrokerError, *STORAGE_FAILURES)
"""Lists what Redis and storage raise during an outage. `is_outage` recognizes PostgreSQL's errors."""
FIRST_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 300.0
FORGOTTEN_SECONDS: Final = 3600.0
"""Sets the time after which a row that was not tried again is assumed to be deleted."""


class Aside(NamedTuple):
    num_failures: int
    until: float
    """Gives the end by the monotonic clock."""


class SetAside:
    """Holds the rows that one process has set aside, by table and id. A row is tried again after 5 s, and after twice
    as long each time, up to 5 min. With `strict` none is set aside: every error of a row propagates."""

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._rows: dict[tuple[str, Any], Aside] = {}
        self._lock = threading.Lock()

    def ids(self, table: str) -> list[Any]:
        """Return the ids of the table's rows to skip now."""
        now = time.monotonic()
        with self._lock:
            return [id for (of, id), aside in self._rows.items() if of == table and aside.until > now]

    @contextmanager
    def guard(self, table: str, id: Any, session: Session | None = None) -> Iterator[None]:
        """Set the row aside if the block fails, and undo the block's changes in the session's transaction. An outage of
        PostgreSQL propagates; so does one of Redis or storage, which also sets the row aside, because the row may be
        its cause."""
        try:
            with session.begin_nested() if session is not None else nullcontext():
                yield
        except Exception as error:
            if self._strict or (isinstance(error, DBAPIError) and is_outage(error)):
                raise
            self._set_aside(table, id, error)
            if isinstance(error, OUTAGES):
                raise
        else:
            with self._lock:
                self._rows.pop((table, id), None)

    def _set_aside(self, table: str, id: Any, error: Exception) -> None:
        now = time.monotonic()
        with self._lock:
            self._rows = {row: each for row, each in self._rows.items() if each.until > now - FORGOTTEN_SECONDS}
            count = self._rows[table, id].num_failures + 1 if (table, id) in self._rows else 1
            seconds = min(FIRST_SECONDS * 2.0 ** min(count - 1, 10), LONGEST_SECONDS)
            self._rows[table, id] = Aside(count, now + seconds)
        # Without the error's text, which may contain a row's values.
        log.error("set a row aside", table=table, row=id, count=count, seconds=seconds, **fault_of(error))


STRICT: Final = SetAside(strict=True)


def fault_of(error: BaseException) -> dict[str, Any]:
    """Return what a log may contain of any error."""
    return {"fault": type(error).__name__, "frames": frames_of(error)}


def take_all(**steps: Callable[[], object]) -> None:
    """Run each step, even if those before it failed; an outage of PostgreSQL ends all. The first failure is raised at
    the end, others are logged."""
    failed: Exception | None = None
    for name, step in steps.items():
        try:
            step()
        except Exception as error:
            if isinstance(error, DBAPIError) and is_outage(error):
                raise
            if failed is not None:
                log.error("a step of a duty failed", step=name, **fault_of(error))
            failed = failed or error
    if failed is not None:
        raise failed
