"""Keeps the heartbeat of an attempt, which renews its lease and reads the state that the user requested for the job."""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.db.session import Sessions, transaction
from app.domain.jobs.state import JobState
from app.errors import StaleAttempt
from app.jitter import jittered
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService

log = structlog.get_logger()

T = TypeVar("T")


class Heartbeat:
    """Renews the lease on a thread. `state` is the job's last known state; `stale` means that the attempt is lost."""

    def __init__(self, sessions: Sessions, claim: Claim, lease_seconds: float, every_seconds: float) -> None:
        self.state = JobState.running
        self.stale = False
        self.num_failed = 0
        """Counts the errors so far, without outages of PostgreSQL."""
        self.ends_at: float | None = None
        """Holds the end of the job's time limit on this machine's monotonic clock; None without a limit."""
        self.log_tail: Callable[[], str] = str
        self._kept_log = ""
        self._sessions, self._claim = sessions, claim
        self._lease, self._every = lease_seconds, every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self.stale:
            try:
                self._renew()
            except StaleAttempt:
                self.stale = True
            except DBAPIError as error:
                log.warning(
                    "PostgreSQL is unreachable; the heartbeat is retried",
                    job=self._claim.job_id,
                    error=str(error)[:300],
                )
            except Exception:
                # Heartbeats must continue after any error.
                self.num_failed += 1
                log.exception("a heartbeat failed; it is retried", job=self._claim.job_id, count=self.num_failed)
            if self._stop.wait(jittered(self._every)):
                return

    def _renew(self) -> None:
        """Renew the lease. An error in the other work here does not undo the renewal."""
        tail = self._try(self.log_tail)
        with transaction(self._sessions, "heartbeat") as session:
            self.state = QueueService(session).renew(self._claim, self._lease)
            attempt = AttemptService(session, self._claim)
            self._try(lambda: self._read_time_left(attempt), session)
            if tail is not None and tail != self._kept_log:
                self._try(lambda: attempt.keep_log(tail), session)
        self._kept_log = tail if tail is not None else self._kept_log

    def _try(self, act: Callable[[], T], session: Session | None = None) -> T | None:
        """Call `act` in a savepoint of the session's transaction; return None if it fails."""
        try:
            with session.begin_nested() if session else nullcontext():
                return act()
        except Exception as error:
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                raise
            self.num_failed += 1
            log.exception("part of a heartbeat failed", job=self._claim.job_id, count=self.num_failed)
            return None

    def _read_time_left(self, attempt: AttemptService) -> None:
        left = attempt.seconds_left()
        self.ends_at = None if left is None else time.monotonic() + left
