"""Measures the rate of uploads over HTTP relative to a bare Starlette endpoint that copies its body to a file, and the
server's peak memory.

Both servers run in separate processes under the same uvicorn and are called in turn over a socket. Tunewright computes
the digest, writes through its storage, waits for the disk and commits a row; `bare, on disk` also waits for the disk.
The limit applies to a body and a form. `parts` are sent one after another, and each waits for the disk and a row;
`joining` is the rate at which the light worker assembles them.
"""

import argparse
import hashlib
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.db.migrate import migrate
from app.db.session import connect, open_sessions, transaction
from app.keys.service import KeyService
from app.local.postgres import embedded_postgres
from app.projects.lookup import find_or_create_project
from app.storage import Storage
from app.uploads.service import join_next
from benchmarks import machine
from benchmarks.metrics_range import serving
from benchmarks.processes import ROOT, peak_memory

LEAST_RATIO, MOST_MEMORY = 0.7, 64 * 2**20
CHUNK = 2**20
PART_BYTES = 32 * 2**20
WAYS = ["bare", "body", "bare, on disk", "form", "parts"]
BOUNDARY = b"------------------------d74496d66958873e"

BARE = """
import os, socket, sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def copy(request):
    with open(sys.argv[2], "wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
        if request.query_params.get("sync"):
            file.flush()
            os.fsync(file.fileno())
    os.unlink(sys.argv[2])
    return PlainTextResponse("copied", 201)

app = Starlette(routes=[Route("/", copy, methods=["PUT"])])
uvicorn.Server(uvicorn.Config(app, access_log=False)).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
"""


@contextmanager
def bare_server(folder: Path) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        fd = listener.fileno()
        command = [sys.executable, "-c", BARE, str(fd), str(folder / "copied")]
        server = subprocess.Popen(command, cwd=ROOT, pass_fds=[fd], stderr=subprocess.DEVNULL)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.terminate()
            server.wait()


class Sender:
    """Sends the same block repeatedly, so that nothing is read from disk."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes, self.block = num_bytes, os.urandom(CHUNK)
        whole = hashlib.sha256()
        for _ in range(num_bytes // CHUNK):
            whole.update(self.block)
        self.sha256 = whole.hexdigest()

    def body(self, num_bytes: int) -> Iterator[bytes]:
        return (self.block for _ in range(num_bytes // CHUNK))

    def form(self) -> Iterator[bytes]:
        yield b'--%b\r\nContent-Disposition: form-data; name="file"; filename="rows"\r\n\r\n' % BOUNDARY
        yield from self.body(self.num_bytes)
        yield b"\r\n--%b--\r\n" % BOUNDARY


class Server:
    def __init__(self, url: str, key: str = "") -> None:
        address = urlsplit(url)
        self.connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=600)
        self.headers = {"Authorization": f"Bearer {key}"}

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        if isinstance(body, dict):
            body, headers = json.dumps(body), {"Content-Type": "application/json"}
        self.connection.request(method, path, body, self.headers | headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")
        return json.loads(text) if text.startswith(b"{") else None


def in_parts(server: Server, sender: Sender) -> Any:
    upload = server.ask("POST", "/uploads", {"bytes": sender.num_bytes, "filename": "rows"})
    path = f"/uploads/{upload['id']}"
    ids = []
    for start in range(0, sender.num_bytes, PART_BYTES):
        size = min(PART_BYTES, sender.num_bytes - start)
        ids.append(server.ask("POST", f"{path}/parts", sender.body(size), **{"Content-Length": str(size)})["id"])
    return server.ask("POST", f"{path}/complete", {"part_ids": ids})["dataset_id"]


def ways(bare: Server, ours: Server, sender: Sender) -> dict[str, Callable[[], Any]]:
    length = {"Content-Length": str(sender.num_bytes)}
    form = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    form["Content-Length"] = str(sum(map(len, sender.form())))
    return {
        "bare": lambda: bare.ask("PUT", "/", sender.body(sender.num_bytes), **length),
        "body": lambda: ours.ask("PUT", "/datasets", sender.body(sender.num_bytes), **length),
        "bare, on disk": lambda: bare.ask("PUT", "/?sync=1", sender.body(sender.num_bytes), **length),
        "form": lambda: ours.ask("POST", "/datasets", sender.form(), **form),
        "parts": lambda: in_parts(ours, sender),
    }


def measure(folder: Path, num_bytes: int, repeats: int, chosen: list[str]) -> dict[str, Any]:
    described = machine.describe()
    with embedded_postgres(folder) as database_url:
        migrate(database_url)
        engine = connect(database_url, pool_size=1)
        with transaction(open_sessions(engine)) as session:
            key = KeyService(session).create(find_or_create_project(session, "default"), "benchmark")
        with serving(database_url, folder) as (url, pid), bare_server(folder) as bare_url:
            ours, sender = Server(url, key), Sender(num_bytes)
            ours.ask("GET", "/datasets")
            idle = peak_memory(pid)
            rates: dict[str, list[float]] = {}
            for _ in range(repeats):
                for name, send in ways(Server(bare_url), ours, sender).items():
                    if name not in chosen:
                        continue
                    began = time.perf_counter()
                    made = send()
                    rates.setdefault(name, []).append(num_bytes / (time.perf_counter() - began) / 1e6)
                    if name == "parts":
                        began = time.perf_counter()
                        join_next(open_sessions(engine), Storage(f"file://{folder}/storage"), "bench-1")
                        rates.setdefault("joining", []).append(num_bytes / (time.perf_counter() - began) / 1e6)
                    check(ours, made, sender)
                    # There is no dispatcher to remove it.
                    for path in [*folder.glob("storage/**/file-*"), *folder.glob("storage/**/part_*")]:
                        path.unlink()
            grown = peak_memory(pid) - idle
        engine.dispose()
    medians = {name: round(statistics.median(found), 1) for name, found in rates.items()}
    ours_too = [name for name in ("body", "form", "parts") if name in medians and "bare" in medians]
    ratios = {name: round(medians[name] / medians["bare"], 3) for name in ours_too}
    is_fast = all(ratio >= LEAST_RATIO for name, ratio in ratios.items() if name != "parts")
    return {
        "machine": described,
        "bytes": num_bytes,
        "repeats": repeats,
        "megabytes_per_second": medians,
        "every_rate": {name: [round(rate, 1) for rate in found] for name, found in rates.items()},
        "ratio_to_bare": ratios,
        "least_ratio": LEAST_RATIO,
        "memory_above_idle_bytes": grown,
        "most_memory_bytes": MOST_MEMORY,
        "passed": is_fast and grown <= MOST_MEMORY,
    }


def check(server: Server, made: Any, sender: Sender) -> None:
    server.connection.close()  # The server may have closed it while the parts were assembled.
    dataset = server.ask("GET", f"/datasets/{made}") if isinstance(made, str) else made
    if dataset and dataset["sha256"] != sender.sha256:
        raise RuntimeError("the stored bytes differ from those sent")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=256, help="size of each upload (256)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=WAYS, help="ways of uploading; without bare there is no ratio"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "upload.json")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tunewright-bench-"))
    folder.chmod(0o755)  # Root's PostgreSQL runs as another user, who needs access.
    try:
        result = measure(folder, arguments.megabytes * CHUNK, arguments.repeats, arguments.ways)
    finally:
        shutil.rmtree(folder)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["megabytes_per_second"]), result["ratio_to_bare"], f"{result['memory_above_idle_bytes']:,}")
    print(f"{'passed' if result['passed'] else 'FAILED'}; {arguments.output}", flush=True)


if __name__ == "__main__":
    main()
