"""The child's words carried on: metrics to Redis at once and to Postgres in batches, a heartbeat, and back the wish
that a user has put into the job's state.

Postgres may be away: points wait in memory, the lease runs out if it must, and training goes on.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from app import streams
from app.db.session import Sessions, transaction
from app.domain.job import JobState
from app.domain.metric import MetricPoint
from app.errors import StaleAttempt
from app.jobs.attempts import AttemptService
from app.jobs.queue import Claim, QueueRepository
from worker.training.protocol import Measured

log = structlog.get_logger()

FLUSH_SECONDS = 1.0
BATCH = 500
PACE_STEPS = 50
"""Steps over which the speed is averaged to estimate the finish."""


class Heartbeat:
    """A thread that keeps the lease. `state` is the job's as last seen; `stale` means that the attempt is lost."""

    def __init__(self, sessions: Sessions, claim: Claim, lease_seconds: float, every_seconds: float) -> None:
        self.state = JobState.running
        self.stale = False
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
        while not self._stop.wait(self._every):
            try:
                with transaction(self._sessions, "heartbeat") as session:
                    self.state = QueueRepository(session).renew(self._claim, self._lease)
                    self._keep_log(AttemptService(session, self._claim))
            except StaleAttempt:
                self.stale = True
                return
            except DBAPIError as error:
                log.warning("heartbeat failed, will try again", job=self._claim.job_id, error=str(error)[:300])

    def _keep_log(self, attempt: AttemptService) -> None:
        tail = self.log_tail()
        if tail != self._kept_log:
            attempt.keep_log(tail)
            self._kept_log = tail


class Reporter:
    def __init__(self, sessions: Sessions, redis: Redis, claim: Claim) -> None:
        self._sessions, self._redis, self._claim = sessions, redis, claim
        self._waiting: deque[MetricPoint] = deque()
        self._number = 0
        self._flushed_at = time.monotonic()
        self._pace: deque[tuple[int, float]] = deque(maxlen=PACE_STEPS)
        self.total_steps = 0

    def measured(self, said: Measured) -> None:
        self._number += 1
        now = datetime.now(UTC)
        point = MetricPoint(
            attempt=self._claim.attempt, number=self._number, step=said.step, at=now, values=said.values
        )
        self._waiting.append(point)
        if "loss" in said.values:
            self._pace.append((said.step, time.monotonic()))
        try:
            streams.publish(self._redis, self._claim.job_id, [point])
        except RedisError as error:
            log.warning("live metrics are not shown", job=self._claim.job_id, error=str(error)[:200])
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """Store what waits, once a second at most; an unreachable Postgres leaves it waiting."""
        if not self._waiting or time.monotonic() - self._flushed_at < FLUSH_SECONDS:
            return
        try:
            self.flush()
        except DBAPIError as error:
            log.warning("metrics wait for Postgres", job=self._claim.job_id, error=str(error)[:300])
        self._flushed_at = time.monotonic()

    def flush(self) -> None:
        """Store all that waits. DBAPIError if Postgres is away, StaleAttempt if the attempt is lost."""
        while self._waiting:
            batch = [self._waiting[index] for index in range(min(BATCH, len(self._waiting)))]
            with transaction(self._sessions, "record") as session:
                AttemptService(session, self._claim).record(batch, self._estimated_finish())
            for _ in batch:
                self._waiting.popleft()

    def _estimated_finish(self) -> datetime | None:
        if len(self._pace) < 2 or not self.total_steps:
            return None
        (first, began), (last, ended) = self._pace[0], self._pace[-1]
        left = (self.total_steps - last) * (ended - began) / max(last - first, 1)
        return datetime.now(UTC) + timedelta(seconds=left)
