"""Sends the training process's metrics to Redis at once and to PostgreSQL in batches.

While PostgreSQL is unreachable, points are kept on disk and training continues, even if the lease expires."""

import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import structlog
from redis import Redis
from sqlalchemy.exc import DBAPIError

from app.domain.metric import MetricPoint
from app.jobs.attempts.service import AttemptService, proof_of
from app.jobs.queue.repository import Claim
from worker.attempt.fenced_writer import FencedWriter
from worker.attempt.metrics.live import LivePoints
from worker.attempt.metrics.spool import Spool
from worker.training.runtime.messages import MetricsMessage

log = structlog.get_logger()

FLUSH_SECONDS = 1.0
PACE_STEPS = 50
"""The speed is averaged over this many steps to estimate the finish."""


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

    def flush_with_retries(self) -> None:
        """Store all queued points, and wait while PostgreSQL is unreachable."""
        while True:
            try:
                return self.flush()
            except DBAPIError as error:
                self._fence.wait_for_postgres(error)

    def _estimated_finish(self) -> datetime | None:
        pace = tuple(self._pace)
        if len(pace) < 2 or not self.total_steps:
            return None
        (first, began), (last, ended) = pace[0], pace[-1]
        left = (self.total_steps - last) * (ended - began) / max(last - first, 1)
        return datetime.now(UTC) + timedelta(seconds=left)
