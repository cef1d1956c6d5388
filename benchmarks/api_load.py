"""Load by `wrk`: requests a second, the slowest answers, and the processor time that the server took for one."""

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
    """As a line of the file that `api.lua` reads."""

    method: str
    path: str
    tag: str = "-"
    body: str = "-"
    """A file."""


class Case(NamedTuple):
    """Requests of one kind. `over` names the bare case that it is held against, and `least` its bar."""

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
    """Of the server's process, for one request; a busy machine changes it least."""


class Load:
    def __init__(self, folder: Path, bare: Server, ours: Server, key: str) -> None:
        self.folder, self.bare, self.ours, self.key = folder, bare, ours, key

    def check(self, case: Case) -> int:
        """Send one request of the case and return the length of the answer. RuntimeError if it is another than it
        must be."""
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
        """RuntimeError if a request fails."""
        server = self._server(case)
        listed = self.folder / "requests"
        listed.write_text("".join("\t".join(request) + "\n" for request in case.requests))
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(round(seconds), 1)}s", "--timeout", "20s"]
        command += ["-s", str(SCRIPT), server.url, "--", str(listed), f"{pause_ms:.1f}", self.key]
        began = cpu_seconds(server.pid)
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ | {"WRK_PAUSED": str(int(pause_ms > 0))}
        )
        told = json.loads(done.stdout.splitlines()[-1])
        if told["failed"] or not told["requests"]:
            raise RuntimeError(f"{case.name}: {told['failed']} of {told['requests']} requests failed\n{done.stdout}")
        cpu_ms = (cpu_seconds(server.pid) - began) / told["requests"] * 1000
        return Found(told["requests"] / told["seconds"], told["p50_ms"], told["p99_ms"], round(cpu_ms, 3))

    def run_at(self, case: Case, per_second: float, seconds: float) -> Found:
        """At about this rate: each connection pauses at random before a request. How long it must pause is found by
        the time that an answer takes then."""
        cycle_ms = CONNECTIONS / per_second * 1000
        pause = cycle_ms / 2
        tried = self.run(case, 1, pause)
        answering = CONNECTIONS / tried.per_second * 1000 - pause
        return self.run(case, seconds, max(cycle_ms - answering, 1.0))

    def _server(self, case: Case) -> Server:
        return self.bare if case.is_bare else self.ours


def cpu_seconds(pid: int) -> float:
    """Of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
