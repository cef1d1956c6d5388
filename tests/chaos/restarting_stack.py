"""Runs a stack whose processes are killed at failpoints and restarted at once.

Every failpoint is set to kill but starts as fired: its file is in the folder FAILPOINT_ONCE. Removing the file arms the
failpoint for one kill, in the running processes too.
"""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.local.stack import python, worker
from tests.acceptance.conftest import ROOT
from tests.fixtures.failpoints import failpoints
from tunewright import Client

SHORT_TIMES = {
    "TUNEWRIGHT_LEASE_SECONDS": "3",
    "TUNEWRIGHT_HEARTBEAT_SECONDS": "0.3",
    "TUNEWRIGHT_RECOVERY_SECONDS": "0.2",
    "TUNEWRIGHT_POLL_SECONDS": "0.3",
    "TUNEWRIGHT_TRAINING_THREADS": "2",
    "TUNEWRIGHT_MODEL_ROOTS": "/",
    "TUNEWRIGHT_WEBHOOK_ALLOWLIST": "127.0.0.1",
    "TUNEWRIGHT_WEBHOOK_TIMEOUT_SECONDS": "1",
    # A training process is started only when there is a job for it.
    "TUNEWRIGHT_STANDBY_PROCESS": "false",
}


class RestartedProcess:
    def __init__(self, command: list[str], environment: dict[str, str], log: Path, fds: tuple[int, ...] = ()) -> None:
        self.command, self.environment, self.log, self.fds = command, environment, log, fds
        self.ends: list[int] = []
        """Lists the exit codes, negative for a signal."""
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, pass_fds=self.fds
            )

    def restart_if_ended(self) -> None:
        code = self.process.poll()
        if code is not None:
            self.ends.append(code)
            self.process = self._started()

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class RestartingStack:
    def __init__(self, folder: Path, database_url: str, redis_url: str, api_key: str) -> None:
        self.folder, self.fired_folder = folder, folder / "fired"
        self.database_url, self.redis_url, self.api_key = database_url, redis_url, api_key
        self.processes: dict[str, RestartedProcess] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._not_restarted: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._restart_ended)

    def __enter__(self) -> "RestartingStack":
        (self.folder / "logs").mkdir(parents=True)
        self.fired_folder.mkdir()
        for name in failpoints():
            (self.fired_folder / f"{name}:kill").touch()
        armed = self.environment() | {
            "FAILPOINT": ",".join(f"{name}:kill" for name in failpoints()),
            "FAILPOINT_ONCE": str(self.fired_folder),
        }
        fd = self._listener.fileno()
        log = str(self.folder / "logs" / "api.log")
        self._start("api", python(self.folder, "app.local.api", str(fd), log), armed, (fd,))
        self._start("dispatcher", python(self.folder, "app.dispatcher"), armed)
        for queue in ("training", "light"):
            self._start(queue, [*worker(queue, self.folder, armed).command], armed)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for process in self.processes.values():
            process.end()
        self._listener.close()

    def _start(self, name: str, command: list[str], environment: dict[str, str], fds: tuple[int, ...] = ()) -> None:
        self.processes[name] = RestartedProcess(command, environment, self.folder / "logs" / f"{name}.log", fds)

    def _restart_ended(self) -> None:
        while not self._stop.wait(0.05):
            for name, process in self.processes.items():
                if name not in self._not_restarted:
                    process.restart_if_ended()

    @contextmanager
    def without_restarts(self, name: str) -> Iterator[None]:
        """Suspend restarts of a process inside the context. It is restarted afterwards."""
        self._not_restarted.add(name)
        yield
        self._not_restarted.remove(name)

    def environment(self) -> dict[str, str]:
        ours = ("TUNEWRIGHT_", "FAILPOINT", "DATABASE_URL", "REDIS_URL", "STORAGE_URL")
        given = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        places = {"TUNEWRIGHT_DATA_DIR": str(self.folder), "TUNEWRIGHT_CACHE_DIR": str(self.cache)}
        urls = {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url, "PYTHONUNBUFFERED": "1"}
        return given | SHORT_TIMES | places | urls

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def client(self, api_key: str | None = None) -> Client:
        return Client(self.url, api_key or self.api_key)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def arm(self, *names: str) -> None:
        for name in names:
            (self.fired_folder / f"{name}:kill").unlink()

    def has_fired(self, *names: str) -> bool:
        return all((self.fired_folder / f"{name}:kill").exists() for name in names)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 180) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, f"timed out waiting until {what}; {self.log_tails()}"
            time.sleep(0.05)

    def log_tails(self) -> str:
        tails = {name: process.log.read_text(errors="replace")[-1500:] for name, process in self.processes.items()}
        return "\n".join(f"--- {name}\n{tail}" for name, tail in tails.items())

    @contextmanager
    def paused(self, *names: str) -> Iterator[None]:
        """Stop processes inside the context, so that failpoints armed there fire while they work."""
        for name in names:
            self.processes[name].process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for name in names:
                self.processes[name].process.send_signal(signal.SIGCONT)
