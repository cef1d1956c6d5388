"""Measures what hostile clients cost the API: endless headers and trailers, silent connections, unread downloads, and
webhooks with unresolvable names. Also measures what the protection against them costs uploads.

The API runs in a separate process and is called over 127.0.0.1. Uploads go in turn to it and to the same API under
uvicorn's default protocol."""

import argparse
import http.client
import json
import math
import resource
import select
import shutil
import socket
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2

from app.db.migrate import migrate
from app.db.session import connect, open_sessions, transaction
from app.keys.service import KeyService
from app.local.postgres import embedded_postgres
from app.projects.lookup import find_or_create_project
from benchmarks import machine
from benchmarks.bars import Bar
from benchmarks.metrics_range import serving
from benchmarks.processes import cpu_seconds, peak_memory, resident_memory
from benchmarks.upload import Sender, Server

HOSTILE_BYTES = 200 * 10**6
LINES = (b"x-filler: " + b"a" * 1000 + b"\r\n") * 1000
NUM_SILENT, DESCRIPTORS, SILENT_SECONDS = 2000, 1024, 20
NUM_STALLED, DOWNLOAD_MEGABYTES, STALLED_SECONDS = 200, 64, 90
NUM_NAMES = 80
UPLOAD_MEGABYTES = 256
PLAIN = """
import socket, sys, uvicorn
from app.local.api import configure

config = configure()
config.http = "httptools"
uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
"""


class Api:
    """Holds an API process and an authenticated client."""

    def __init__(self, url: str, pid: int, key: str) -> None:
        self.pid, self.key = pid, key
        self.http = httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False)
        self.server = Server(url, key)
        for _ in range(20):
            self.http.get("/jobs").raise_for_status()

    def open_socket(self, sent: str = "") -> socket.socket:
        connection = socket.create_connection((self.http.base_url.host, self.http.base_url.port), timeout=30)
        connection.sendall(sent.replace("\n", "\r\n").encode())
        return connection

    def answers(self, path: str) -> bool:
        """Return whether the API answers on a new connection."""
        connection = http.client.HTTPConnection(self.http.base_url.host, self.http.base_url.port, timeout=10)
        with closing(connection):
            try:
                connection.request("GET", path, headers={"Authorization": f"Bearer {self.key}"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return False
        return answer.status == 200

    def count_files(self, id: str) -> int:
        """Return how many descriptors of the dataset's file the API has open."""
        found = 0
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # It was closed.
                found += id in str(link.readlink())
        return found


def flood(api: Api, begin: str) -> dict[str, Any]:
    """Send `begin` and then header lines, as many as the API accepts."""
    idle, num_sent, received = peak_memory(api.pid), 0, b""
    began = time.perf_counter()
    with api.open_socket(begin) as connection:
        try:
            while num_sent < HOSTILE_BYTES:
                connection.sendall(LINES)
                num_sent += len(LINES)
            grown = peak_memory(api.pid) - idle
            connection.settimeout(3)
            received = connection.recv(1000)
        except OSError:
            pass
    grown = peak_memory(api.pid) - idle
    return {
        "bytes_sent": num_sent,
        "seconds": round(time.perf_counter() - began, 2),
        "answer": received.partition(b"\r\n")[0].decode(),
        "memory_bytes": grown,
    }


def stay_silent(api: Api) -> dict[str, Any]:
    resource.prlimit(api.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    began = time.monotonic()
    latencies: dict[str, list[float]] = {"/healthz": [], "/jobs": []}
    num_failed, all_gone_after = 0, None
    with ExitStack() as opened:
        poll = select.poll()
        silent = [opened.enter_context(api.open_socket()) for _ in range(NUM_SILENT)]
        for each in silent:
            poll.register(each, select.POLLIN)
        left = {each.fileno() for each in silent}
        while time.monotonic() < began + SILENT_SECONDS:
            for path, found in latencies.items():
                asked = time.perf_counter()
                num_failed += not api.answers(path)
                found.append(time.perf_counter() - asked)
            for fd, _ in poll.poll(50):
                poll.unregister(fd)
                left.discard(fd)
            if not left and all_gone_after is None:
                all_gone_after = round(time.monotonic() - began, 1)
    return {
        "num_connections": NUM_SILENT,
        "descriptors": DESCRIPTORS,
        "num_requests": sum(map(len, latencies.values())),
        "num_failed": num_failed,
        "p99_seconds": {path: round(percentile(found, 0.99), 3) for path, found in latencies.items()},
        "max_seconds": {path: round(max(found), 3) for path, found in latencies.items()},
        "all_gone_after_seconds": all_gone_after,
    }


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(math.ceil(len(values) * share), len(values)) - 1]


def stall(api: Api) -> dict[str, Any]:
    sender = Sender(DOWNLOAD_MEGABYTES * 2**20)
    length = {"Content-Length": str(sender.num_bytes)}
    id = api.server.ask("PUT", "/datasets", sender.body(sender.num_bytes), **length)["id"]
    idle = resident_memory(api.pid)
    request = f"GET /datasets/{id}/content HTTP/1.1\nHost: a\nAuthorization: Bearer {api.key}\n\n"
    with ExitStack() as opened:
        clients = [opened.enter_context(api.open_socket(request)) for _ in range(NUM_STALLED)]
        began = time.monotonic()
        await_true(lambda: api.count_files(id) == NUM_STALLED, 30)
        time.sleep(5)
        grown = resident_memory(api.pid) - idle
        for client in clients[: NUM_STALLED // 2]:
            client.close()
        closed_after = await_true(lambda: api.count_files(id) == NUM_STALLED // 2, 30)
        await_true(lambda: api.count_files(id) == 0, STALLED_SECONDS)
        cut_after = time.monotonic() - began
    return {
        "num_downloads": NUM_STALLED,
        "memory_bytes": grown,
        "closed_after_client_left_seconds": closed_after,
        "cut_after_seconds": round(cut_after, 1),
    }


def post_stuck_names(api: Api, other_key: str) -> dict[str, Any]:
    """Create webhooks of one project with unresolvable hosts at once, while another project calls `GET /jobs`."""
    limits = httpx2.Limits(max_connections=NUM_NAMES)
    theirs = {"Authorization": f"Bearer {other_key}"}
    with (
        httpx2.Client(base_url=api.http.base_url, headers=theirs, timeout=60, trust_env=False, limits=limits) as client,
        ThreadPoolExecutor(NUM_NAMES) as pool,
    ):

        def post(number: int) -> int:
            return client.post("/webhooks", json={"url": f"https://{number}.stuck.test/"}).status_code

        seconds: list[float] = []
        posted = [pool.submit(post, number) for number in range(NUM_NAMES)]
        while not all(each.done() for each in posted):
            began = time.perf_counter()
            api.http.get("/jobs").raise_for_status()
            seconds.append(time.perf_counter() - began)
    return {
        "num_posts": NUM_NAMES,
        "answers": dict(Counter(each.result() for each in posted)),
        "num_requests": len(seconds),
        "median_seconds": round(statistics.median(seconds), 3),
        "max_seconds": round(max(seconds), 3),
    }


def await_true(holds: Callable[[], bool], seconds: float) -> float | None:
    """Wait until the condition holds; return the seconds, or None after a timeout."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        if holds():
            return round(time.monotonic() - began, 2)
        time.sleep(0.02)
    return None


def upload_in_turn(apis: dict[str, Api], folder: Path, repeats: int) -> dict[str, Any]:
    sender = Sender(UPLOAD_MEGABYTES * 2**20)
    length = {"Content-Length": str(sender.num_bytes)}
    wall: dict[str, list[float]] = {name: [] for name in apis}
    cpu: dict[str, list[float]] = {name: [] for name in apis}
    for number in range(repeats):
        for name in list(apis) if number % 2 else reversed(apis):
            api = apis[name]
            api.server.connection.close()  # The API may have closed it during the other's turn.
            began, used = time.perf_counter(), cpu_seconds(api.pid)
            made = api.server.ask("PUT", "/datasets", sender.body(sender.num_bytes), **length)
            wall[name].append(time.perf_counter() - began)
            cpu[name].append(cpu_seconds(api.pid) - used)
            assert made["sha256"] == sender.sha256
            for path in folder.glob(f"storage/**/{made['id']}*"):
                path.unlink()
    return {
        "megabytes": UPLOAD_MEGABYTES,
        "wall_seconds": {name: [round(each, 3) for each in found] for name, found in wall.items()},
        "cpu_seconds": {name: [round(each, 2) for each in found] for name, found in cpu.items()},
        "rate_over_plain": ratio(wall, min),
        "rate_over_plain_by_cpu": ratio(cpu, statistics.median),
    }


def ratio(seconds: dict[str, list[float]], middle: Callable[[list[float]], float]) -> float:
    """Return the guarded API's rate relative to the plain one's. Wall times are compared by their minimum, since other
    load on the machine only increases them."""
    return round(middle(seconds["plain"]) / middle(seconds["guarded"]), 3)


@contextmanager
def starting(database_url: str, folder: Path, key: str, code: str | None = None) -> Iterator[Api]:
    with serving(database_url, folder, ["-c", code] if code else ["-m", "app.local.api"]) as (url, pid):
        yield Api(url, pid, key)


def measure(folder: Path, repeats: int) -> dict[str, Any]:
    described = machine.describe()
    with embedded_postgres(folder) as url:
        migrate(url)
        engine = connect(url, pool_size=1)
        with transaction(open_sessions(engine)) as session:
            key, other_key = (
                KeyService(session).create(find_or_create_project(session, project), "benchmark")
                for project in ("default", "other")
            )
        engine.dispose()
        with starting(url, folder, key) as api:
            headers = flood(api, "GET /healthz HTTP/1.1\nHost: a\n")
        with starting(url, folder, key) as api:
            chunked = f"PUT /datasets HTTP/1.1\nHost: a\nAuthorization: Bearer {key}\nTransfer-Encoding: chunked\n\n"
            trailers = flood(api, f"{chunked}5\nhello\n0\n")
        with starting(url, folder, key) as api:
            silent = stay_silent(api)
        with starting(url, folder, key) as api:
            stalled = stall(api)
        with serving(url, folder, ["-m", "tests.fixtures.stuck_names"]) as (address, pid):
            names = post_stuck_names(Api(address, pid, key), other_key)
        with starting(url, folder, key) as guarded, starting(url, folder, key, PLAIN) as plain:
            uploads = upload_in_turn({"guarded": guarded, "plain": plain}, folder, repeats)
    found = {
        "headers": headers,
        "trailers": trailers,
        "silent": silent,
        "stalled": stalled,
        "names": names,
        "uploads": uploads,
    }
    return {"machine": described, "repeats": repeats, **found, "bars": [bar.as_json() for bar in judge(found)]}


def judge(found: dict[str, Any]) -> list[Bar]:
    silent, stalled, uploads = found["silent"], found["stalled"], found["uploads"]
    mega = 1e6
    return [
        Bar("memory for 200 MB of headers, MB", found["headers"]["memory_bytes"] / mega, "at most", 5),
        Bar("memory for 200 MB of trailers, MB", found["trailers"]["memory_bytes"] / mega, "at most", 5),
        Bar("p99 of /healthz during silent connections, s", silent["p99_seconds"]["/healthz"], "at most", 1),
        Bar("p99 of /jobs during silent connections, s", silent["p99_seconds"]["/jobs"], "at most", 1),
        Bar("failed requests during silent connections", silent["num_failed"], "at most", 0),
        Bar("time until all silent connections are closed, s", silent["all_gone_after_seconds"], "at most", 20),
        Bar("memory for 200 stalled downloads, MB", stalled["memory_bytes"] / mega, "at most", 100),
        Bar(
            "time until files of disconnected clients are closed, s",
            stalled["closed_after_client_left_seconds"],
            "at most",
            1,
        ),
        Bar("time until stalled downloads are closed, s", stalled["cut_after_seconds"], "at most", 75),
        Bar(
            "longest GET /jobs during webhooks with unresolvable names, s",
            found["names"]["max_seconds"],
            "at most",
            0.5,
        ),
        Bar("upload rate relative to uvicorn's default protocol", uploads["rate_over_plain"], "at least", 0.95),
        Bar(
            "upload rate relative to uvicorn's default protocol, by CPU time",
            uploads["rate_over_plain_by_cpu"],
            "at least",
            0.95,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=31, help="uploads to each API (31)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "hostile.json")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = Path(tempfile.mkdtemp(prefix="tunewright-bench-"))
    folder.chmod(0o755)  # Root's PostgreSQL runs as another user, who needs access.
    try:
        result = measure(folder, arguments.repeats)
    finally:
        shutil.rmtree(folder)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for bar in result["bars"]:
        print(f"{bar['verdict']:>12}  {bar['text']}: {bar['value']} ({bar['side']} {bar['limit']})", flush=True)


if __name__ == "__main__":
    main()
