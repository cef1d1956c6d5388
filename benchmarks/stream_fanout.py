"""Measures what 500 event streams on 8 jobs cost the API, and how long a point takes to reach 500 readers.

The jobs are rows without a worker. While they are quiet, the streams cost only look-ups: the CPU time of the API's
process and PostgreSQL's transactions are counted. Then each job publishes points as a worker does, and each reader
notes how old they are. The readers run in this process.

`--only-single` measures only `/jobs/{id}/stream`, which earlier versions have too. `--before FILE` includes such a
result.
"""

import argparse
import asyncio
import json
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis
from sqlalchemy import make_url

from app import live_metrics
from app.db.migrate import migrate
from app.db.session import Sessions, connect, open_sessions, transaction
from app.domain.jobs.spec import JobSpec
from app.domain.metric import MetricPoint
from app.jobs.metrics.repository import MetricRepository
from app.keys.service import KeyService
from app.local.postgres import embedded_postgres
from app.local.redis import embedded_redis
from app.projects.lookup import find_or_create_project
from benchmarks import machine
from benchmarks.bars import Bar
from benchmarks.metrics_range import serving
from benchmarks.processes import cpu_seconds

NUM_STREAMS, NUM_JOBS = 500, 8
IDS = [f"ftjob-{number:024x}" for number in range(NUM_JOBS)]
SETTLE_SECONDS, SECONDS_BETWEEN_POINTS, NUM_POINTS = 15.0, 2.0, 8
SPEC = JobSpec.model_validate({"base_model": "none", "dataset_id": "file-" + "0" * 24, "training": {"max_steps": 1000}})
JOB = """
    INSERT INTO jobs
        (id, project_id, state, priority, base_model, method, spec, metadata, min_memory_gb, device, attempt)
    VALUES (%s, %s, 'running', 0, 'none', 'lora', %s, '{}', 0, 'auto', 1)
"""
TRANSACTIONS = "SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database"
MEASURED_AT = re.compile(rb'"measured_at":"([^"]+)"')


class Readers:
    """Holds open streams, and how old each received point was."""

    def __init__(self, url: str, key: str) -> None:
        self.host, self.port, self.key = urlsplit(url).hostname, urlsplit(url).port, key
        self.ages: list[float] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, path_of: Callable[[int], str]) -> None:
        for number in range(NUM_STREAMS):
            reader, writer = await asyncio.open_connection(self.host, self.port)
            request = f"GET {path_of(number)} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self.key}\r\n\r\n"
            writer.write(request.encode())
            status = await reader.readline()
            if b" 200 " not in status:
                raise RuntimeError(status.decode())
            self._tasks.append(asyncio.create_task(self._read(reader, writer)))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                if line.startswith(b"data: ") and (found := MEASURED_AT.search(line)):
                    self.ages.append(time.time() - datetime.fromisoformat(found[1].decode()).timestamp())
        finally:
            writer.close()


def one_job(number: int) -> str:
    return f"/jobs/{IDS[number % NUM_JOBS]}/stream"


def all_jobs(_: int) -> str:
    return "/stream?" + "&".join(f"job={id}" for id in IDS)


class Stack:
    def __init__(self, database_url: str, redis_url: str) -> None:
        self.database_url, self.redis_url = database_url, redis_url
        self.sessions: Sessions = open_sessions(connect(database_url, pool_size=2))
        with transaction(self.sessions) as session:
            self.project_id = find_or_create_project(session, "default")
            self.key = KeyService(session).create(self.project_id, "benchmark")
        with self.ask() as admin:
            for id in IDS:
                admin.execute(JOB, (id, self.project_id, SPEC.model_dump_json()))
        self.num_points = 0

    def ask(self) -> psycopg.Connection[Any]:
        url = make_url(self.database_url)
        host = str(url.query["host"])
        return psycopg.connect(host=host, user="postgres", dbname=url.database, autocommit=True)

    def count_transactions(self) -> int:
        with self.ask() as admin:
            found = admin.execute(TRANSACTIONS).fetchone()
        return int(found[0]) if found else 0

    def publish(self, client: redis.Redis) -> None:
        """Publish one point of each job, and store all of them."""
        self.num_points += 1
        number = self.num_points
        for id in IDS:
            now = datetime.now(UTC)
            point = MetricPoint(attempt=1, number=number, step=number, measured_at=now, values={"loss": 1.0})
            live_metrics.publish(client, id, [point])
            with transaction(self.sessions) as session:
                MetricRepository(session).add(self.project_id, id, [point])


def publish_first(stack: Stack) -> None:
    """Publish a point that is not measured: the first one of an attempt comes from PostgreSQL."""
    with redis.Redis.from_url(stack.redis_url) as client:
        stack.publish(client)


async def measure_quiet(stack: Stack, pid: int, seconds: float) -> dict[str, float]:
    await asyncio.sleep(SETTLE_SECONDS)
    transactions, cpu, began = stack.count_transactions(), cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(seconds)
    elapsed = time.monotonic() - began
    return {
        "cpu_share": round((cpu_seconds(pid) - cpu) / elapsed, 4),
        "transactions_per_second": round((stack.count_transactions() - transactions) / elapsed, 1),
    }


async def measure_live(stack: Stack, readers: Readers, pid: int) -> dict[str, float]:
    await asyncio.to_thread(publish_first, stack)
    await asyncio.sleep(SECONDS_BETWEEN_POINTS)
    readers.ages.clear()
    cpu, began = cpu_seconds(pid), time.monotonic()
    with redis.Redis.from_url(stack.redis_url) as client:
        for _ in range(NUM_POINTS):
            await asyncio.to_thread(stack.publish, client)
            await asyncio.sleep(SECONDS_BETWEEN_POINTS)
    ages = sorted(readers.ages)
    return {
        "num_received": len(ages),
        "p50_ms": round(statistics.median(ages) * 1000, 1),
        "p99_ms": round(ages[int(len(ages) * 0.99)] * 1000, 1),
        "cpu_share": round((cpu_seconds(pid) - cpu) / (time.monotonic() - began), 4),
    }


async def measure_streams(stack: Stack, url: str, pid: int, seconds: float, path_of: Callable[[int], str]) -> Any:
    readers = Readers(url, stack.key)
    await readers.open(path_of)
    quiet = await measure_quiet(stack, pid, seconds)
    live = await measure_live(stack, readers, pid)
    await readers.close()
    return {"quiet": quiet, "live": live}


def measure(folder: Path, seconds: float, *, only_single: bool) -> dict[str, Any]:
    kinds = {"single": one_job} if only_single else {"single": one_job, "several": all_jobs}
    result: dict[str, Any] = {"machine": machine.describe(), "num_streams": NUM_STREAMS, "num_jobs": NUM_JOBS}
    with embedded_postgres(folder) as database_url, embedded_redis(folder) as redis_url:
        migrate(database_url)
        stack = Stack(database_url, redis_url)
        for name, path_of in kinds.items():
            with serving(database_url, folder, redis_url=redis_url) as (url, pid):
                result[name] = asyncio.run(measure_streams(stack, url, pid, seconds, path_of))
                print(name, json.dumps(result[name]), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="duration of the quiet time (20)")
    parser.add_argument("--only-single", action="store_true", help="measure only streams of one job each")
    parser.add_argument("--before", type=Path, help="include this result of an earlier version")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "stream.json")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tunewright-bench-"))
    folder.chmod(0o755)  # Root's PostgreSQL runs as another user, who needs access.
    try:
        result = measure(folder, arguments.seconds, only_single=arguments.only_single)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.before:
        result["before"] = json.loads(arguments.before.read_text())
    if not arguments.only_single:
        shares = [result[name]["quiet"]["cpu_share"] for name in ("single", "several")]
        bar = Bar("share of one core that 500 quiet streams cost", max(shares), "at most", 0.1)
        result["bars"] = [bar.as_json()]
    result["machine"]["load_average_after"] = machine.load_average()
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(arguments.output, flush=True)


if __name__ == "__main__":
    main()
