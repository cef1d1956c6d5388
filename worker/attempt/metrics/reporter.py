"""Sends the training process's metrics to Redis at once and to PostgreSQL in batches, and keeps the heartbeat, which
reads the state that the user requested for the job.

While PostgreSQL is unreachable, points are kept on disk and training continues, even if the lease expires."""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
from redis import Redis
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.db.session import Sessions, transaction
from app.domain.jobs.state import JobState
from app.domain.metric import MetricPoint
from app.errors import StaleAttempt
from app.jitter import jittered
from app.jobs.attempts.service import AttemptService, proof_of
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from worker.attempt.fenced_writer import FencedWriter
from worker.attempt.metrics.live import LivePoints
from worker.attempt.metrics.spool import Spool
from worker.training.runtime.messages import MetricsMessage

log = structlog.get_logger()

T = TypeVar("T")

FLUSH_SECONDS = 1.0
PACE_STEPS = 50
"""The speed is averaged over this many steps to estimate the finish."""


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


class Reporter:
    """Collects points with `record`, called from the thread that reads the training process's pipe, and stores them
    with `flush`."""

    def __init__(self, fence: FencedWriter, redis: Redis, claim: Claim) -> None:
        self._fence, self._claim = fence, claim
        self._live = LivePoints(redis, claim.job_id)
        self._spool: Spool | None = None
        self._flushing = threading.Lock()
        self._number = 0
        self._flushed_at = time.monotonic()
        self._pace: deque[tuple[int, float]] = deque(maxlen=PACE_STEPS)
        self.total_steps = 0

    def open(self, folder: Path) -> None:
        self._spool = Spool.create(folder, proof_of(self._claim))
        self._live.start()

    def close(self) -> bool:
        """Stop, and return whether every point is stored. The others stay in the spool for `cleanup`."""
        self._live.stop()
        if self._spool is None:
            return True
        self._spool.close()
        return self._spool.is_empty

    def record(self, message: MetricsMessage) -> None:
        assert self._spool is not None
        self._number += 1
        now = datetime.now(UTC)
        point = MetricPoint(
            attempt=self._claim.attempt, number=self._number, step=message.step, measured_at=now, values=message.values
        )
        self._spool.append(point)
        self._live.add(point)
        if "loss" in message.values:
            self._pace.append((message.step, time.monotonic()))

    def flush_if_due(self) -> bool:
        """Store the queued points, at most once a second and only after the plan is recorded.

        Return whether a flush was due and PostgreSQL is not known to be unreachable."""
        if not self.total_steps or time.monotonic() - self._flushed_at < FLUSH_SECONDS:
            return False
        try:
            self.flush()
        except DBAPIError as error:
            log.warning(
                "PostgreSQL is unreachable; metrics are delayed", job=self._claim.job_id, error=str(error)[:300]
            )
            return False
        finally:
            self._flushed_at = time.monotonic()
        return True

    def flush(self) -> None:
        """Store all queued points. Raises DBAPIError if PostgreSQL is unreachable, and StaleAttempt if the attempt is
        lost."""
        with self._flushing:
            while self._spool is not None and not self._spool.is_empty:
                batch = self._spool.peek()
                if batch.points:
                    finish = self._estimated_finish()
                    store = partial(AttemptService.record, points=batch.points, estimated_finish_at=finish)
                    self._fence.run_once(store, "record")
                self._spool.drop(batch)

    def _estimated_finish(self) -> datetime | None:
        pace = tuple(self._pace)
        if len(pace) < 2 or not self.total_steps:
            return None
        (first, began), (last, ended) = pace[0], pace[-1]
        left = (self.total_steps - last) * (ended - began) / max(last - first, 1)
        return datetime.now(UTC) + timedelta(seconds=left)
