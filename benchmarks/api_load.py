"""Runs load with `wrk`: measures requests per second, latency, and the server's CPU time per request."""

import json
import os
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

import httpx2

from benchmarks.processes import ROOT

CONNECTIONS: Final = 16
SCRIPT: Final = ROOT / "benchmarks" / "api.lua"
TICKS: Final = os.sysconf("SC_CLK_TCK")


class Request(NamedTuple):
    """Describes a request, as a line of the file that `api.lua` reads."""

    method: str
    path: str
    tag: str = "-"
    body: str = "-"
    """Is the path of a file."""


class Case(NamedTuple):
    """Holds requests of one kind. `over` names the bare case for comparison, and `least` the smallest ratio."""

    name: str
    requests: list[Request]
    over: str | None = None
    least: float = 0.0
    status: int = 200

    @property
    def is_bare(self) -> bool:
        return self.over is None


class Server(NamedTuple):
    url: str
    pid: int


class Found(NamedTuple):
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """Is the server's CPU time per request, which depends least on other load."""


class Load:
    def __init__(self, folder: Path, bare: Server, ours: Server, key: str) -> None:
        self.folder, self.bare, self.ours, self.key = folder, bare, ours, key

    def check(self, case: Case) -> int:
        """Send one request of the case and return the length of the response. Raises RuntimeError if its status is not
        the expected one."""
        method, path, tag, body = case.requests[0]
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        headers |= {"If-None-Match": tag} if tag != "-" else {}
        content = Path(body).read_bytes() if body != "-" else None
        url = self._server(case).url + path
        answer = httpx2.request(method, url, headers=headers, content=content, timeout=60, trust_env=False)
        if answer.status_code != case.status:
            raise RuntimeError(f"{case.name}: {answer.status_code} {answer.text[:500]}")
        return len(answer.content)

    def run(self, case: Case, seconds: float, pause_ms: float = 0.0) -> Found:
        """Run the case's load. Raises RuntimeError if a request fails."""
        server = self._server(case)
        listed = self.folder / "requests"
        listed.write_text("".join("\t".join(request) + "\n" for request in case.requests))
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(round(seconds), 1)}s", "--timeout", "20s"]
        command += ["-s", str(SCRIPT), server.url, "--", str(listed), f"{pause_ms:.1f}", self.key]
        began = cpu_seconds(server.pid)
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ | {"WRK_PAUSED": str(int(pause_ms > 0))}
        )
        totals = json.loads(done.stdout.splitlines()[-1])
        if totals["failed"] or not totals["requests"]:
            raise RuntimeError(
                f"{case.name}: {totals['failed']} of {totals['requests']} requests failed\n{done.stdout}"
            )
        cpu_ms = (cpu_seconds(server.pid) - began) / totals["requests"] * 1000
        return Found(totals["requests"] / totals["seconds"], totals["p50_ms"], totals["p99_ms"], round(cpu_ms, 3))

    def run_at(self, case: Case, per_second: float, seconds: float) -> Found:
        """Run the load at about this rate. Each connection pauses for a random time before a request; a first run
        measures the response time to determine the pause."""
        cycle_ms = CONNECTIONS / per_second * 1000
        pause = cycle_ms / 2
        tried = self.run(case, 1, pause)
        answering = CONNECTIONS / tried.per_second * 1000 - pause
        return self.run(case, seconds, max(cycle_ms - answering, 1.0))

    def _server(self, case: Case) -> Server:
        return self.bare if case.is_bare else self.ours


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
