"""Publishes metric points to Redis for live display, on a separate thread, so that a slow Redis does not block
training."""

import threading
from collections import deque
from itertools import islice
from typing import Final

import structlog
from redis import Redis
from redis.exceptions import RedisError

from app import live_metrics
from app.domain.metric import MetricPoint
from app.jitter import jittered

log = structlog.get_logger()

BATCH: Final = 500
RETRY_SECONDS: Final = 1.0
END_SECONDS: Final = 1.0


class LivePoints:
    """Publishes points to Redis. During an outage it keeps the newest points, as many as a stream holds, and publishes
    them afterwards.

    A point may be published twice if a response was lost; readers drop the duplicate."""

    def __init__(self, redis: Redis, job_id: str) -> None:
        self._redis, self._job_id = redis, job_id
        self._queued: deque[MetricPoint] = deque()
        self._lock = threading.Lock()
        self._news, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-points", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop publishing. Unpublished points can be read from PostgreSQL. A publication in progress may outlast this
        call."""
        self._stopped.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(END_SECONDS)

    def add(self, point: MetricPoint) -> None:
        """Queue a point and return at once."""
        with self._lock:
            self._queued.append(point)
            if len(self._queued) > live_metrics.MAX_LIVE_POINTS:
                self._queued.popleft()
        self._news.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._news.wait()
            self._news.clear()
            try:
                while not self._stopped.is_set() and (batch := self._oldest()):
                    live_metrics.publish(self._redis, self._job_id, batch)
                    self._drop_until(batch[-1])
            except RedisError as error:
                log.warning("Redis is unreachable; live metrics are delayed", job=self._job_id, error=str(error)[:200])
                self._stopped.wait(jittered(RETRY_SECONDS))
                self._news.set()

    def _oldest(self) -> list[MetricPoint]:
        with self._lock:
            return list(islice(self._queued, BATCH))

    def _drop_until(self, last: MetricPoint) -> None:
        with self._lock:
            while self._queued and self._queued[0].number <= last.number:
                self._queued.popleft()
