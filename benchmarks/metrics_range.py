"""Measures ranges of a curve with 10 million points over HTTP, and exports of the same values as files.

SQL writes two jobs to a separate PostgreSQL: `long` with ten million steps of loss over three attempts that each
resumed from a slightly earlier step, and `wide` with nine metrics of a short job. The migration's statements build
their buckets. The server runs as under `tunewright up` and is called over a socket. A time includes the whole response.
The floor is the time of the same request for steps without points.
"""

import argparse
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import psycopg
from sqlalchemy import make_url

from app.db.migrate import migrate
from app.db.session import connect, open_sessions, transaction
from app.domain.metric import MetricPoint
from app.jobs.metrics.buckets import bucket_statements
from app.jobs.metrics.repository import MetricRepository
from app.keys.service import KeyService
from app.local.postgres import embedded_postgres
from app.projects.lookup import find_or_create_project
from benchmarks import machine
from benchmarks.processes import ROOT, peak_memory

LONG, WIDE = "ftjob-" + "1" * 24, "ftjob-" + "2" * 24
NAMES = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "epoch", "num_tokens", "peak_memory_bytes",
         "validation_loss", "validation_token_accuracy")  # fmt: skip
LIMIT_MS, MOST_POINTS = 100, 2000
RANGES = 60
"""Counts the random ranges of each case."""
NO_POINT = {"after_step": 10**9}

JOB = """
    INSERT INTO jobs
        (id, project_id, state, priority, base_model, method, spec, metadata, min_memory_gb, device, attempt)
    VALUES (%s, %s, 'queued', 0, 'none', 'lora', '{}', '{}', 0, 'auto', %s)
"""
ATTEMPT = """
    INSERT INTO attempts (project_id, job_id, number, worker_id, claim_token, start_step)
    VALUES (%s, %s, %s, 'w', 'x', %s)
"""
VALUES = """
    INSERT INTO metric_values (project_id, job_id, attempt, name, step, number, value, measured_at)
    SELECT %(project_id)s, %(job_id)s, %(attempt)s, name, step, step - %(start)s,
           exp(-step / 3e6) + random() * (CASE WHEN random() < 1e-4 THEN 50 ELSE 1 END),
           timestamptz '2026-01-05' + step * interval '0.1 s'
    FROM generate_series(%(start)s + 1, %(last)s) AS step CROSS JOIN unnest(%(names)s::text[]) AS name
"""


def fill(database_url: str, project_id: str, num_steps: int) -> dict[str, Any]:
    """Write both jobs and their buckets; return the counts and the time to build the buckets."""
    tenth = num_steps // 10
    attempts = [(1, 0, 4 * tenth), (2, 4 * tenth - 12_345, 7 * tenth), (3, 7 * tenth - 54_321, num_steps)]
    url = make_url(database_url)
    # The superuser may skip foreign key checks; twenty million checks would take most of the time.
    with psycopg.connect(host=str(url.query["host"]), user="postgres", dbname=url.database, autocommit=True) as admin:
        admin.execute("SET session_replication_role = replica")
        admin.execute(JOB, (LONG, project_id, 3))
        admin.execute(JOB, (WIDE, project_id, 1))
        for number, start, last in attempts:
            admin.execute(ATTEMPT, (project_id, LONG, number, start))
            write(admin, project_id, LONG, number, start, last, ["loss"])
            print(f"attempt {number}: steps {start + 1:,} to {last:,}", flush=True)
        admin.execute(ATTEMPT, (project_id, WIDE, 1, 0))
        write(admin, project_id, WIDE, 1, 0, num_steps // 50, list(NAMES))
        began = time.monotonic()
        for statement in bucket_statements():
            admin.execute(statement.encode())
        seconds = time.monotonic() - began
        admin.execute("VACUUM ANALYZE metric_values, metric_buckets")
        counts = admin.execute("SELECT (SELECT count(*) FROM metric_values), (SELECT count(*) FROM metric_buckets)")
        num_values, num_buckets = counts.fetchone() or (0, 0)
    return {"num_values": num_values, "num_buckets": num_buckets, "seconds_to_build_buckets": round(seconds, 1)}


def write(
    admin: psycopg.Connection[Any], project_id: str, job_id: str, attempt: int, start: int, last: int, names: list[str]
) -> None:
    place = {"project_id": project_id, "job_id": job_id, "attempt": attempt, "names": names}
    admin.execute(VALUES, place | {"start": start, "last": last})


@contextmanager
def serving(
    database_url: str,
    folder: Path,
    module: Sequence[str] = ("-m", "app.local.api"),
    redis_url: str = "unix:///nowhere/redis.sock",
) -> Iterator[tuple[str, int]]:
    """Run the API in a separate process; yield its URL and process id. `module` is started like `app.local.api`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        fd = listener.fileno()
        env = os.environ | {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,  # only live streams need it
            "TUNEWRIGHT_DATA_DIR": str(folder),
        }
        log = folder / "api.log"
        with log.open("ab") as file:
            command = [sys.executable, *module, str(fd), str(log)]
            server = subprocess.Popen(command, cwd=ROOT, env=env, pass_fds=[fd], stdout=file, stderr=file)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", server.pid
        finally:
            server.terminate()
            server.wait()


def ask_often(client: httpx2.Client, title: str, job_id: str, ranges: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Measure one case: the times of random ranges, which must respect the limit of points, and of the floor."""
    times, floor, counts, downsampled = [], [], [], 0
    for _ in range(RANGES):
        milliseconds, body = timed(client, f"/jobs/{job_id}/metrics", ranges())
        times.append(milliseconds)
        counts.append(len(body["items"]))
        downsampled += body["downsampled"]
        floor.append(timed(client, f"/jobs/{job_id}/metrics", NO_POINT)[0])
    if max(counts) > MOST_POINTS:
        raise RuntimeError(f"{title}: {max(counts)} points")
    result = {
        "title": title,
        "p50_ms": round(statistics.median(times), 1),
        "p95_ms": p95(times),
        "max_ms": round(max(times), 1),
        "floor_p50_ms": round(statistics.median(floor), 1),
        "floor_p95_ms": p95(floor),
        "most_points": max(counts),
        "share_downsampled": downsampled / RANGES,
    }
    print(
        f"{title}: p50 {result['p50_ms']} ms, p95 {result['p95_ms']} ms (floor {result['floor_p50_ms']} and "
        f"{result['floor_p95_ms']}), {max(counts)} points",
        flush=True,
    )
    return result


def timed(client: httpx2.Client, path: str, params: dict[str, Any]) -> tuple[float, Any]:
    """Return the milliseconds until the whole response is read, and the response."""
    began = time.perf_counter()
    body = client.get(path, params=params).raise_for_status().json()
    return (time.perf_counter() - began) * 1000, body


def p95(times: list[float]) -> float:
    return round(statistics.quantiles(times, n=20, method="inclusive")[-1], 1)


def measure_ranges(client: httpx2.Client, num_steps: int) -> list[dict[str, Any]]:
    draw = random.Random(0)
    wide_steps = num_steps // 50

    def somewhere(width: int, num_steps: int = num_steps) -> dict[str, Any]:
        first = draw.randint(1, num_steps - width + 1)
        return {"from_step": first, "to_step": first + width - 1}

    def of_any_width() -> dict[str, Any]:
        return somewhere(int(num_steps ** draw.random()))

    names = {"names": ["loss"]}
    cases: list[tuple[str, str, Callable[[], dict[str, Any]]]] = [
        ("the whole curve", LONG, lambda: names),
        ("a range of any width", LONG, lambda: names | of_any_width()),
        ("half of it", LONG, lambda: names | somewhere(num_steps // 2)),
        ("a hundredth of it", LONG, lambda: names | somewhere(num_steps // 100)),
        ("15,999 steps, by values", LONG, lambda: names | somewhere(15_999)),
        ("2,000 steps, every point", LONG, lambda: names | somewhere(2000)),
        ("a page of every point", LONG, lambda: {"after_step": draw.randint(0, num_steps)}),
        ("nine metrics, the whole curves", WIDE, dict),
        ("nine metrics, a range of any width", WIDE, lambda: somewhere(int(wide_steps ** draw.random()), wide_steps)),
        ("nine metrics, 2,000 steps, every point", WIDE, lambda: somewhere(2000, wide_steps)),
    ]
    return [ask_often(client, title, job_id, ranges) for title, job_id, ranges in cases]


def export(client: httpx2.Client, pid: int, kind: str) -> dict[str, Any]:
    """Download the whole long job as a file; return the time, the size, and the server's peak memory."""
    before, began, size = peak_memory(pid), time.monotonic(), 0
    with client.stream("GET", f"/jobs/{LONG}/metrics.{kind}", timeout=600) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_raw():
            size += len(chunk)
    seconds, after = time.monotonic() - began, peak_memory(pid)
    print(f"{kind}: {seconds:.1f} s, {size / 1e6:.0f} MB, peak {before / 1e6:.0f} to {after / 1e6:.0f} MB", flush=True)
    return {
        "kind": kind,
        "seconds": round(seconds, 1),
        "bytes": size,
        "peak_memory_before_bytes": before,
        "peak_memory_bytes": after,
    }


def measure_adding(database_url: str, project_id: str) -> dict[str, Any]:
    """Measure adding batches of 500 points with seven values each at the end of a long attempt."""
    engine, times = connect(database_url, pool_size=1), []
    for batch in range(40):
        points = [
            MetricPoint(
                attempt=1,
                number=10**7 + number,
                step=10**7 + number,
                measured_at=datetime.now(UTC),
                values=dict.fromkeys(NAMES[:7], random.random()),
            )
            for number in range(batch * 500, batch * 500 + 500)
        ]
        began = time.perf_counter()
        with transaction(open_sessions(engine)) as session:
            MetricRepository(session).add(project_id, WIDE, points)
        times.append((time.perf_counter() - began) * 1000)
    engine.dispose()
    return {"points": 500, "values": 3500, "p50_ms": round(statistics.median(times), 1), "max_ms": round(max(times), 1)}


def measure(folder: Path, num_steps: int) -> dict[str, Any]:
    described = machine.describe()
    with embedded_postgres(folder) as database_url:
        migrate(database_url)
        engine = connect(database_url, pool_size=1)
        with transaction(open_sessions(engine)) as session:
            project_id = find_or_create_project(session, "default")
            key = KeyService(session).create(project_id, "benchmark")
        engine.dispose()
        stored = fill(database_url, project_id, num_steps)
        print(stored, flush=True)
        with (
            serving(database_url, folder) as (url, pid),
            httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client,
        ):
            client.get("/healthz").raise_for_status()
            cases = measure_ranges(client, num_steps)
            exports = [export(client, pid, kind) for kind in ("csv", "parquet")]
        return {
            "machine": described,
            "num_steps": num_steps,
            **stored,
            "limit_ms": LIMIT_MS,
            "passed": max(case["p95_ms"] for case in cases) <= LIMIT_MS,
            "cases": cases,
            "exports": exports,
            "adding": measure_adding(database_url, project_id),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000_000, help="steps of the long job (10 million)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "metrics_range.json")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tunewright-bench-"))
    folder.chmod(0o755)  # Root's PostgreSQL runs as another user, who needs access.
    try:
        result = measure(folder, arguments.steps)
    finally:
        shutil.rmtree(folder)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{'passed' if result['passed'] else 'FAILED'}; {arguments.output}", flush=True)


if __name__ == "__main__":
    main()
