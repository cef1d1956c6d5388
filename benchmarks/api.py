"""Measures the API's requests per second relative to bare handlers, and its p99 latency at half its peak rate.

Both servers run in separate processes under the same uvicorn, on one PostgreSQL with fsync on. `wrk` sends requests to
them in turn, so that other load on the machine slows both. A ratio is that of two medians.
"""

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import Engine, text

from app.db.migrate import migrate
from app.db.session import connect, open_sessions, transaction
from app.keys.service import KeyService
from app.local.postgres import embedded_postgres
from app.projects.lookup import find_or_create_project
from benchmarks import api_rows, machine
from benchmarks.api_load import Case, Found, Load, Request, Server
from benchmarks.bare_api import BareJob, Base
from benchmarks.bars import Bar
from benchmarks.metrics_range import serving
from benchmarks.processes import ROOT

LIBRARIES = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "psycopg", "pydantic")
MOST_P99_MS = 50.0
NO_WRK = (
    "wrk is not installed. Install it with your system's package manager: `apt-get install wrk` on Debian and Ubuntu."
)


@contextmanager
def bare_serving(database_url: str) -> Iterator[Server]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        fd = listener.fileno()
        command = [sys.executable, "-m", "benchmarks.bare_api", str(fd), database_url]
        server = subprocess.Popen(command, cwd=ROOT, pass_fds=[fd])
        try:
            yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}", server.pid)
        finally:
            server.terminate()
            server.wait()


def find_cases(project_id: str, jobs: api_rows.Jobs, body: str) -> list[Case]:
    bare = f"/{project_id}/jobs"
    cases = [Case("bare GET", [Request("GET", f"{bare}/{id}") for id in jobs.answers])]
    for state, ids in (("queued", jobs.queued), ("running", jobs.running)):
        tags = {id: jobs.answers[id].headers["etag"] for id in ids}
        cases += [
            Case(f"GET, {state}", [Request("GET", f"/jobs/{id}") for id in ids], "bare GET", 0.5),
            Case(f"/v1 GET, {state}", [Request("GET", f"/v1/fine_tuning/jobs/{id}") for id in ids], "bare GET", 0.5),
            Case(f"304, {state}", [Request("GET", f"/jobs/{id}", tags[id]) for id in ids], "bare GET", 0.8, 304),
        ]
    return [
        *cases,
        Case("bare list", [Request("GET", bare)]),
        Case("list of 20", [Request("GET", "/jobs")], "bare list", 0.4),
        Case("bare POST", [Request("POST", bare, body=body)], status=201),
        Case("POST", [Request("POST", "/jobs", body=body)], "bare POST", 0.4, 201),
    ]


def prepare(engine: Engine, url: str, key: str, body: Path) -> list[Case]:
    """Create the jobs, the bare rows made of their responses, and a request body."""
    with transaction(open_sessions(engine)) as session:
        project_id = find_or_create_project(session, "default")
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=url, timeout=60, headers=headers, trust_env=False) as client:
        jobs = api_rows.make_jobs(engine, project_id, client)
    Base.metadata.create_all(engine)
    with transaction(open_sessions(engine)) as session:
        rows = [BareJob(id=id, project_id=project_id, body=answer.json()) for id, answer in jobs.answers.items()]
        session.add_all(rows)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    body.write_text(json.dumps(jobs.spec))
    return find_cases(project_id, jobs, str(body))


class Turns:
    """Runs the cases in turn."""

    def __init__(self, load: Load, engine: Engine, cases: list[Case], seconds: float) -> None:
        self.load, self.engine, self.cases, self.seconds = load, engine, cases, seconds
        self.found: dict[str, list[Found]] = {case.name: [] for case in cases}
        self.at_half: dict[str, list[Found]] = {case.name: [] for case in cases if case.name.startswith("GET")}

    def warm_up(self) -> None:
        for case in self.cases:
            self.load.run(case, 1)
            self._clean_up(case)

    def take(self) -> None:
        for case in self.cases:
            self.found[case.name].append(self.load.run(case, self.seconds))
            self._clean_up(case)
        for case in self.cases:
            if case.name in self.at_half:
                half = statistics.median(each.per_second for each in self.found[case.name]) / 2
                self.at_half[case.name].append(self.load.run_at(case, half, self.seconds))

    def _clean_up(self, case: Case) -> None:
        if case.status == 201:
            api_rows.remove_posted(self.engine)


def measure(folder: Path, seconds: float, repeats: int) -> dict[str, Any]:
    described = machine.describe()
    described["libraries"] |= {name: machine.installed(name) for name in LIBRARIES}
    with embedded_postgres(folder) as database_url:
        migrate(database_url)
        engine = connect(database_url, pool_size=1)
        with transaction(open_sessions(engine)) as session:
            key = KeyService(session).create(find_or_create_project(session, "default"), "benchmark")
        with serving(database_url, folder) as (url, pid), bare_serving(database_url) as bare:
            cases = prepare(engine, url, key, folder / "spec.json")
            load = Load(folder, bare, Server(url, pid), key)
            sizes = {case.name: load.check(case) for case in cases}
            turns = Turns(load, engine, cases, seconds)
            turns.warm_up()
            for turn in range(repeats):
                turns.take()
                print(f"turn {turn + 1} of {repeats}", flush=True)
        engine.dispose()
    return {"machine": described, "seconds": seconds, "repeats": repeats, "bytes": sizes, **judge(turns)}


def judge(turns: Turns) -> dict[str, Any]:
    medians = {name: median_of(found) for name, found in turns.found.items()}
    halves = {name: median_of(found) for name, found in turns.at_half.items()}
    bars = []
    for case in turns.cases:
        if case.over is not None:
            ratio = medians[case.name].per_second / medians[case.over].per_second
            bars.append(Bar(f"{case.name} / {case.over}", ratio, "at least", case.least))
    for name, found in halves.items():
        bars.append(Bar(f"{name}: p99 in ms at half of its peak", found.p99_ms, "at most", MOST_P99_MS))
    return {
        "medians": {name: found._asdict() for name, found in medians.items()},
        "medians_at_half": {name: found._asdict() for name, found in halves.items()},
        "every_rate": {name: [round(each.per_second, 1) for each in found] for name, found in turns.found.items()},
        "bars": [bar.as_json() for bar in bars],
    }


def median_of(found: list[Found]) -> Found:
    return Found(*(round(statistics.median(values), 3) for values in zip(*found, strict=True)))


def format_result(result: dict[str, Any]) -> str:
    lines = ["                      per s     cpu ms   p99 ms    bytes"]
    for name, found in result["medians"].items():
        numbers = f"{found['per_second']:10,.0f} {found['cpu_ms']:8.2f} {found['p99_ms']:8.1f}"
        lines.append(f"{name:18} {numbers} {result['bytes'][name]:8,}")
    lines.append("")
    for bar in result["bars"]:
        lines.append(f"{bar['text']:46} {bar['value']:7.2f}   {bar['side']} {bar['limit']:g}: {bar['verdict']}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="duration of each case in each turn (2)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "api.json")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit(NO_WRK)
    folder = Path(tempfile.mkdtemp(prefix="tunewright-bench-"))
    folder.chmod(0o755)  # Root's PostgreSQL runs as another user, who needs access.
    try:
        result = measure(folder, arguments.seconds, arguments.repeats)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{format_result(result)}\n\n{arguments.output}", flush=True)


if __name__ == "__main__":
    main()
