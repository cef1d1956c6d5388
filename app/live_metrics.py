"""Defines all Redis keys of the project, and the live metrics stored there. Redis may lose all of it: PostgreSQL stores
it too."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import redis
import redis.asyncio

from app.domain.metric import MetricPoint

MAX_LIVE_POINTS = 10_000
KEYS_A_COMMAND = 1000


def metrics_key(job_id: str) -> str:
    return f"tunewright:metrics:{job_id}"


def connect(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url, socket_timeout=5, socket_connect_timeout=5)


def connect_async(redis_url: str) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(redis_url, socket_timeout=30, socket_connect_timeout=5)


def publish(client: redis.Redis, job_id: str, points: Sequence[MetricPoint]) -> None:
    with client.pipeline(transaction=False) as pipe:
        for point in points:
            pipe.xadd(metrics_key(job_id), {"point": point.model_dump_json()}, maxlen=MAX_LIVE_POINTS, approximate=True)
        pipe.expire(metrics_key(job_id), 24 * 3600)
        pipe.execute()


def count(client: redis.Redis, job_ids: Sequence[str]) -> int:
    """Count the jobs that have live metrics."""
    return sum(int(client.exists(*keys)) for keys in _batches(job_ids))


def delete(client: redis.Redis, job_ids: Sequence[str]) -> None:
    """Delete the live metrics of jobs."""
    for keys in _batches(job_ids):
        client.delete(*keys)


def _batches(job_ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(job_ids), KEYS_A_COMMAND):
        yield [metrics_key(id) for id in job_ids[start : start + KEYS_A_COMMAND]]


async def read_newest(
    client: redis.asyncio.Redis, job_ids: Sequence[str], limit: int
) -> dict[str, tuple[str, list[MetricPoint]]]:
    """Return, by job, the position of the newest live point, and the last points up to it, oldest first."""
    async with client.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.xrevrange(metrics_key(job_id), count=limit)
        found: Any = await pipe.execute()
    return {
        job_id: (newest_first[0][0].decode() if newest_first else "0", _points(newest_first[::-1]))
        for job_id, newest_first in zip(job_ids, found, strict=True)
    }


async def read_live(
    client: redis.asyncio.Redis, positions: Mapping[str, str], wait_seconds: float
) -> dict[str, tuple[str, list[MetricPoint]]]:
    """Return, for each job with points published after its position, these points and the position to continue from.
    Wait for the first one."""
    streams: Any = {metrics_key(job_id): position for job_id, position in positions.items()}
    found: Any = await client.xread(streams, count=500, block=max(int(wait_seconds * 1000), 1))
    jobs = {metrics_key(job_id).encode(): job_id for job_id in positions}
    return {jobs[key]: (entries[-1][0].decode(), _points(entries)) for key, entries in found or ()}


def _points(entries: Sequence[Any]) -> list[MetricPoint]:
    return [MetricPoint.model_validate_json(fields[b"point"]) for _, fields in entries]
