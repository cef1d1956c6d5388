"""Runs the stack of a chaos run: servers, API, dispatchers and workers, each a process that may be killed and restarts.

All waits in the settings are divided by one scale, 8 by default, so that measured times relate to their limits as in
production. Programs reach both servers through fault proxies; the tests connect directly.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import psutil
import redis

from app.db.migrate import migrate
from app.db.session import connect, open_sessions, transaction
from app.keys.service import KeyService
from app.local.child import Child, ChildSpec, stop_children
from app.local.folder import open_folder
from app.local.postgres import prepare_postgres
from app.local.redis import prepare_redis
from app.local.server import Server, start_server
from app.local.stack import listen, local_url, python, readiness, worker
from app.local.supervisor import PR_SET_CHILD_SUBREAPER, reap_adopted
from app.projects.lookup import find_or_create_project
from app.storage import Storage
from tests.chaos import entry
from tests.chaos.plan import Fatal
from tests.chaos.proxy import FaultProxy
from tests.fixtures.models import register_model

ROOT = Path(__file__).parents[2]
SCALE = 8
LEASE_SECONDS = 60 / SCALE
DRAIN_SECONDS = 30 / SCALE
EXACT_RESUME_WAIT_SECONDS = 60 / SCALE
SHORTEST_WAIT_SECONDS = 0.15
RESTART_SECONDS = 0.5
REAP_SECONDS = 1.0
THREADS = "TUNEWRIGHT_TRAINING_THREADS"
WORK_BYTES = 2**28
"""Is the size of the separate disk for attempts, if one can be mounted."""


class Stack:
    def __init__(
        self,
        folder: Path,
        *,
        num_scripted: int,
        num_real: int,
        off: str | None = None,
        fatal: Sequence[Fatal] = (),
        scale: float = SCALE,
        over: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.data = open_folder(folder / "data")
        self.num_scripted, self.num_real, self.off = num_scripted, num_real, off
        self.scale = scale
        self.over = over or {}
        """Maps programs' names to additional environment variables."""
        self.fatal = list(fatal)
        """Lists the failpoints of the next restarts."""
        # This process adopts the orphans of killed processes, so that none is missed.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.postgres = prepare_postgres(self.data)
        self.redis = prepare_redis(self.data)
        self.servers = {server.title: Child(server.spec, self.data / "logs") for server in (self.postgres, self.redis)}
        near = self.data / "near"
        near.mkdir(exist_ok=True)
        sockets = Path(str(self.redis.url).removeprefix("unix://").partition("?")[0]).parent
        self.postgres_proxy = FaultProxy(near / ".s.PGSQL.5432", sockets / "pg/.s.PGSQL.5432")
        self.redis_proxy = FaultProxy(near / "redis.sock", sockets / "redis.sock")
        self.programs: dict[str, Child] = {}
        self.threads: dict[int, int] = {}
        """Maps the process id of every worker started to its number of training threads."""
        self.back_at: dict[str, float] = {}
        self.reap_at = 0.0
        self.work_is_mounted = False

    def start(self) -> None:
        for server in (self.postgres, self.redis):
            start_server(server, self.servers[server.title], self.data, time.sleep)
        migrate(self.postgres.url)
        self.engine = connect(self.postgres.url, pool_size=2)
        self.sessions = open_sessions(self.engine)
        with transaction(self.sessions) as session:
            self.project_id = find_or_create_project(session, "default")
            self.key = KeyService(session).create(self.project_id, "chaos")
        self.postgres_proxy.start()
        self.redis_proxy.start()
        self._mount_work()
        self.listener = listen("127.0.0.1", 0)
        self.url = local_url("127.0.0.1", self.listener)
        fd = self.listener.fileno()
        command = python(self.data, "app.local.api", str(fd), str(self.data / "logs" / "api.log"))
        self._add(ChildSpec("api", command, stage=3, env=self.environment(), fds=[fd]))
        for number in (1, 2):
            command = python(self.data, "tests.chaos.entry", "app.dispatcher")
            self._add(ChildSpec(f"dispatcher-{number}", command, stage=2, env=self.environment()))
        self._add(self._worker("light", "light"))
        for kind, count in (("scripted", self.num_scripted), ("real", self.num_real)):
            for number in range(1, count + 1):
                self.add_worker(f"{kind}-{number}")
        while not readiness(self.url)[0]:
            time.sleep(0.1)

    def environment(self, over: dict[str, str] | None = None) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TUNEWRIGHT_", "CHAOS_", "FAILPOINT"))
        }
        kept.pop("STORAGE_URL", None)
        near = self.data / "near"
        names = {
            "DATABASE_URL": self.postgres.url.partition("?")[0] + f"?host={quote(str(near))}",
            "REDIS_URL": f"unix://{near}/redis.sock?db=0",
            "TUNEWRIGHT_DATA_DIR": str(self.data),
            "TUNEWRIGHT_CACHE_DIR": str(self.data / "cache"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
        }
        off = {entry.OFF: self.off} if self.off else {}
        return kept | times(self.scale) | names | off | (over or {})

    def register_model(self, name: str, folder: Path) -> None:
        register_model(self.sessions, Storage(f"file://{self.data}/storage"), name, folder)

    def add_worker(self, name: str) -> None:
        """Start a training worker named `scripted-N` or `real-N`."""
        self._add(self._worker(name, "training", {entry.CHILD: name.partition("-")[0]}))

    def _worker(self, name: str, queue: str, over: dict[str, str] | None = None) -> ChildSpec:
        spec = worker(queue, self.data, self.environment(over))
        options = spec.command[spec.command.index("celery") + 1 :]
        named = [word.replace(f"{queue}@%h", f"{name}@%h") for word in options]
        command = python(self.data, "tests.chaos.entry", "celery", *named)
        return ChildSpec(name, command, stage=4, stop_seconds=20, env=spec.env)

    def _add(self, spec: ChildSpec) -> None:
        assert spec.name not in self.programs
        spec = replace(spec, env={**spec.env, **self.over.get(spec.name, {})})
        child = self.programs[spec.name] = Child(spec, self.data / "logs")
        self.start_program(child)

    def start_program(self, child: Child) -> None:
        child.start()
        assert child.process
        self.threads[child.process.pid] = int(child.spec.env[THREADS])

    # During the run

    def revive(self) -> None:
        """Restart each ended program after a short delay."""
        self._reap_orphans()
        for name, child in self.programs.items():
            if child.is_running():
                continue
            if name not in self.back_at:
                self.back_at[name] = time.monotonic() + RESTART_SECONDS
            elif time.monotonic() >= self.back_at[name]:
                del self.back_at[name]
                self._arm(child)
                self.start_program(child)

    def _reap_orphans(self) -> None:
        """Reap orphans once in a while, since each search reads all processes of the machine."""
        if time.monotonic() > self.reap_at:
            self.reap_at = time.monotonic() + REAP_SECONDS
            children = (*self.programs.values(), *self.servers.values())
            reap_adopted({child.process.pid for child in children if child.process})

    def _arm(self, child: Child) -> None:
        fatal = self.fatal.pop(0) if self.fatal else Fatal(None, None)
        is_worker = child.spec.name.startswith(("scripted", "real"))
        is_dispatcher = child.spec.name.startswith("dispatcher")
        failpoint = fatal.worker if is_worker else fatal.dispatcher if is_dispatcher else None
        fired = self.data / "fired" / str(len(self.fatal))
        fired.mkdir(parents=True)
        child.spec = replace(
            child.spec, env={**child.spec.env, "FAILPOINT": failpoint or "", "FAILPOINT_ONCE": str(fired)}
        )

    def failpoints_fired(self) -> list[str]:
        """Return the names of the fired failpoints. Each start's fires once, in the program or its training process."""
        return [mark.name.partition(":")[0] for mark in (self.data / "fired").glob("*/*")]

    def workers(self) -> dict[str, psutil.Process]:
        """Return the running training workers."""
        return {
            name: psutil.Process(child.process.pid)
            for name, child in self.programs.items()
            if name.startswith(("scripted", "real")) and child.process and child.is_running()
        }

    def stop_server(self, server: Server, number: signal.Signals) -> None:
        child = self.servers[server.title]
        if child.process and child.is_running():
            child.process.send_signal(number)
            child.process.wait()

    def start_server(self, server: Server) -> None:
        """Start the server without waiting until it answers."""
        child = self.servers[server.title]
        if not child.is_running():
            child.start()

    def connect_to_redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis.url, socket_timeout=2)

    def _mount_work(self) -> None:
        work = self.data / "work"
        work.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={WORK_BYTES}", "tmpfs", str(work)]
        self.work_is_mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0

    def change(self, name: str, env: Mapping[str, str]) -> None:
        """Change the environment of a program's next starts."""
        child = self.programs[name]
        child.spec = replace(child.spec, env={**child.spec.env, **env})

    # The end of the run

    def stop_programs(self) -> list[str]:
        """Stop the programs in the order of a shutdown, workers first. Return the names of those that were killed."""
        stubborn: list[str] = []
        for stage in (4, 2, 3):
            asked = [child for child in self.programs.values() if child.spec.stage == stage and child.is_running()]
            for child in asked:
                child.request_stop()
            until = time.monotonic() + max((child.spec.stop_seconds for child in asked), default=0)
            while any(child.is_running() for child in asked) and time.monotonic() < until:
                time.sleep(0.05)
            for child in asked:
                if child.is_running():
                    stubborn.append(child.spec.name)
                    child.kill()
        reap_adopted({child.process.pid for child in self.servers.values() if child.process})
        return stubborn

    def stop(self) -> None:
        stop_children(list(self.programs.values()), time.sleep)
        if hasattr(self, "engine"):
            self.engine.dispose()
        for proxy in (self.postgres_proxy, self.redis_proxy):
            if proxy.thread.is_alive():
                proxy.stop()
        stop_children(list(self.servers.values()), time.sleep)
        if hasattr(self, "listener"):
            self.listener.close()
        if self.work_is_mounted:
            subprocess.run(["umount", "--lazy", str(self.data / "work")], check=True)


def times(scale: float) -> dict[str, str]:
    defaults = {"LEASE": 60, "HEARTBEAT": 10, "RECOVERY": 5, "POLL": 5, "DRAIN_TIMEOUT": 30, "EXACT_RESUME_WAIT": 60}
    settings = {
        f"TUNEWRIGHT_{name}_SECONDS": str(max(seconds / scale, SHORTEST_WAIT_SECONDS))
        for name, seconds in defaults.items()
    }
    return settings | {THREADS: "1", entry.SCALE: str(scale)}


@contextmanager
def running_stack(make: Callable[[Path], Stack], *, keep: bool = False) -> Iterator[Stack]:
    """Run a stack in a system folder that other users may enter, because root's PostgreSQL runs as another user."""
    # SIGTERM raises an exception, so that everything is cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = Path(tempfile.mkdtemp(prefix="tw-chaos-"))
    folder.chmod(0o755)
    stack = make(folder)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
        if keep:
            print(f"logs are in {stack.data / 'logs'}", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
