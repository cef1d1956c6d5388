"""Runs the local stack: the processes, their order, and the messages to the operator."""

import errno
import json
import os
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from signal import SIGTERM

from app.local import orphans
from app.local.child import Child, ChildSpec
from app.local.errors import StartError
from app.local.folder import already_running, check_space, locked, open_folder, write_private
from app.local.greeting import greet
from app.local.postgres import prepare_postgres
from app.local.redis import prepare_redis
from app.local.signals import Waits
from app.local.supervisor import Supervisor, print_message
from app.settings import Settings

READY_SECONDS = 120.0
DEATHS_AT_START = 3
CHECKPOINT_SECONDS = 40.0
"""Allows a worker's training process to write a checkpoint before it ends."""


def run_stack(settings: Settings) -> None:
    """Run until StopRequested, which is raised after everything has ended. Signals must be blocked."""
    data = open_folder(settings.data_dir)
    # Other users can enter root's data folder, but must not read what the stack stores in it.
    os.umask(0o077)
    with locked(data / "lock", lambda: already_running(data)):
        (data / "server.json").unlink(missing_ok=True)
        check_space(data)
        waits = Waits()
        orphans.end_processes(lambda: orphans.find_marked(data), SIGTERM, CHECKPOINT_SECONDS, waits.sleep)
        with closing(listen(settings.host, settings.port)) as listener:
            supervisor = Supervisor(data, waits)
            with stopping(supervisor):
                run(supervisor, settings, listener)


@contextmanager
def stopping(supervisor: Supervisor) -> Iterator[None]:
    try:
        yield
    finally:
        (supervisor.data / "server.json").unlink(missing_ok=True)
        supervisor.stop()


def run(supervisor: Supervisor, settings: Settings, listener: socket.socket) -> None:
    data = supervisor.data
    print_message(f"starting on the data folder {data}")
    env = os.environ | start_servers(supervisor, settings) | {
        "TUNEWRIGHT_DATA_DIR": str(data),
        "TUNEWRIGHT_HOST": settings.host,
        "TUNEWRIGHT_PORT": str(listener.getsockname()[1]),
        orphans.MARK: str(data),
        "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    supervisor.finish(ChildSpec("migrate", python(data, "app.db.migrate"), stage=2, env=env))
    ensure_key(supervisor, env)
    url = local_url(settings.host, listener)
    api = supervisor.start(
        ChildSpec(
            "api",
            python(data, "app.local.api", str(listener.fileno()), str(data / "logs" / "api.log")),
            stage=3,
            env=env,
            fds=[listener.fileno()],
        )
    )
    supervisor.start(ChildSpec("dispatcher", python(data, "app.dispatcher"), stage=2, env=env))
    for queue in ("training", "light"):
        supervisor.start(worker(queue, data, env))
    await_ready(supervisor, api, url)
    # For the command line, which creates keys and registers models beside a running server.
    reached_by = {
        "database_url": env["DATABASE_URL"],
        "redis_url": env["REDIS_URL"],
        "storage_url": settings.storage,
    }
    write_private(data / "server.json", json.dumps({"url": url, "pid": os.getpid(), **reached_by}))
    greet(url, data)
    supervisor.watch()


def start_servers(supervisor: Supervisor, settings: Settings) -> dict[str, str]:
    """Start the servers for which the operator gave no URL, and return the environment with all URLs."""
    given = settings.model_fields_set
    urls = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url}
    sleep = supervisor.waits.sleep
    if "database_url" not in given:
        postgres = prepare_postgres(supervisor.data, sleep=sleep)
        supervisor.serve(postgres)
        urls["DATABASE_URL"] = postgres.url
    if "redis_url" not in given:
        redis = prepare_redis(supervisor.data, sleep=sleep)
        supervisor.serve(redis)
        urls["REDIS_URL"] = redis.url
    return urls


def ensure_key(supervisor: Supervisor, env: dict[str, str]) -> None:
    path = supervisor.data / "api_key"
    if path.exists():
        return
    command = python(supervisor.data, "app.keys", "create", "--project", "default", "--name", "first")
    with tempfile.TemporaryFile(dir=supervisor.data) as output:
        supervisor.finish(ChildSpec("first-key", command, stage=2, env=env, stdout=output))
        output.seek(0)
        write_private(path, output.read().decode())


def python(data: Path, module: str, *arguments: str) -> list[str]:
    """Return a Python command with the stack's mark: Python accepts any word after `-X`."""
    return [sys.executable, "-X", orphans.format_mark(data), "-m", module, *arguments]


def worker(queue: str, data: Path, env: dict[str, str]) -> ChildSpec:
    options = ["--pool", "solo", "--concurrency", "1", "--queues", queue, "--hostname", f"{queue}@%h"]
    quiet = ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
    return ChildSpec(
        name=f"worker-{queue}",
        command=python(data, "celery", "-A", "worker.main", "worker", *options, *quiet),
        stage=4,
        stop_seconds=CHECKPOINT_SECONDS,
        env=env,
    )


def listen(host: str, port: int) -> socket.socket:
    """Listen before anything is started, so that a taken port is known at once."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} on {host} is in use by another program"
        else:
            reason = f"cannot listen on {host} port {port}: {error.strerror}"
        raise StartError(f"{reason}; choose another with --port or TUNEWRIGHT_PORT (0 selects a free one)") from error


def local_url(host: str, listener: socket.socket) -> str:
    """Return an address that reaches it from this machine, also when it listens on all addresses."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - binds nothing
    return f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{listener.getsockname()[1]}"


def await_ready(supervisor: Supervisor, api: Child, url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not (answer := readiness(url))[0]:
        if time.monotonic() > deadline or supervisor.deaths(api) >= DEATHS_AT_START:
            raise StartError(
                f"the API did not become ready ({answer[1]}); the end of its log {api.log}:\n{api.read_log_tail()}"
            )
        supervisor.revive()
        supervisor.waits.sleep(0.2)


def readiness(url: str) -> tuple[bool, str]:
    """Say whether /readyz answers 200, and describe any other answer."""
    # Never use a proxy from the environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/readyz", timeout=2):
            return True, ""
    except urllib.error.HTTPError as error:
        with error:
            return False, f"{error.code} {error.read(500).decode(errors='replace')}"
    except OSError as error:
        return False, str(error)
