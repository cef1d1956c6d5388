"""Starts what the page needs on a folder: servers, the API, the dispatcher and a light worker. Without a training
worker, the demonstration's jobs keep their states."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from app.db.migrate import migrate
from app.db.session import Sessions, connect, open_sessions, transaction
from app.domain.caller import ADMIN
from app.keys.service import KeyService
from app.local.child import Child, ChildSpec, stop_children
from app.local.postgres import embedded_postgres
from app.local.redis import embedded_redis
from app.local.stack import readiness
from app.projects.lookup import find_or_create_project

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

ROOT = Path(__file__).parents[2]
READY_SECONDS = 90.0
STOP_SECONDS = 1.0
"""Limits the time of an orderly stop: the data is removed anyway."""
SHORT_TIMES = {
    "TUNEWRIGHT_LEASE_SECONDS": "6",
    "TUNEWRIGHT_HEARTBEAT_SECONDS": "1",
    "TUNEWRIGHT_RECOVERY_SECONDS": "0.5",
    "TUNEWRIGHT_POLL_SECONDS": "1",
    "TUNEWRIGHT_TRAINING_THREADS": "2",
    "TUNEWRIGHT_WEBHOOK_ALLOWLIST": "127.0.0.1",
}


class Place(NamedTuple):
    """Says where a server and what it stores can be reached."""

    url: str
    key: str
    """Is a key of the project `default` with all scopes."""
    database_url: str
    redis_url: str
    storage_url: str | None


@dataclass
class PageStack:
    place: Place
    folder: Path
    project_id: str
    sessions: Sessions
    environment: dict[str, str]
    children: dict[str, Child] = field(default_factory=dict)

    def start(self, name: str, *command: str, stage: int, **options: Any) -> Child:
        """Start a process of this checkout. It ends with this process."""
        spec = ChildSpec(name, [sys.executable, "-m", *command], stage=stage, env=self.environment, cwd=ROOT, **options)
        child = self.children[name] = Child(spec, self.folder / "logs")
        child.start()
        return child

    def sign_in(self, context: "BrowserContext", key: str | None = None) -> None:
        """Sign a browser's context in with a key, or with that of the project `default`."""
        headers = {"Origin": self.place.url}
        answer = context.request.post("/session", data={"key": key or self.place.key}, headers=headers)
        if answer.status != 201:
            raise RuntimeError(answer.text())

    def start_worker(self, queue: str) -> Child:
        options = ["--pool", "solo", "--concurrency", "1", "--queues", queue, "--hostname", f"{queue}@%h"]
        quiet = ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
        return self.start(f"worker-{queue}", "celery", "-A", "worker.main", "worker", *options, *quiet, stage=4)

    def restart_api(self) -> None:
        """Start the API again, for changed code. Its port stays open."""
        api = self.children["api"]
        stop_children([api], time.sleep)
        api.start()
        self.await_ready()

    def await_ready(self) -> None:
        api, until = self.children["api"], time.monotonic() + READY_SECONDS
        while not (answer := readiness(self.place.url))[0]:
            if not api.is_running() or time.monotonic() > until:
                raise RuntimeError(f"The API did not start ({answer[1]}):\n{api.read_log_tail()}")
            time.sleep(0.1)


@contextmanager
def running_stack(folder: Path, port: int = 0, *, trains: bool = False, **settings: str) -> Iterator[PageStack]:
    """Run a stack on an empty folder that other users can enter, since PostgreSQL under root runs as another user."""
    with (
        embedded_postgres(folder, durable=False) as database_url,
        embedded_redis(folder, durable=False) as redis_url,
        socket.create_server(("127.0.0.1", port), backlog=512) as listener,
    ):
        migrate(database_url)
        engine = connect(database_url)
        sessions = open_sessions(engine)
        with transaction(sessions) as session:
            project_id = find_or_create_project(session, "default")
            key = KeyService(session).create(project_id, "local development", ADMIN)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        place = Place(url, key, database_url, redis_url, f"file://{folder}/storage")
        stack = PageStack(place, folder, project_id, sessions, environment(place, folder) | settings)
        try:
            start_processes(stack, listener, trains=trains)
            yield stack
        finally:
            stop_children(list(stack.children.values()), time.sleep, lambda _: STOP_SECONDS)
            engine.dispose()


def start_processes(stack: PageStack, listener: socket.socket, *, trains: bool) -> None:
    fd = listener.fileno()
    stack.start("api", "app.local.api", str(fd), str(stack.folder / "logs" / "api.log"), stage=3, fds=[fd])
    stack.start("dispatcher", "app.dispatcher", stage=2)
    stack.start_worker("light")
    if trains:
        stack.start_worker("training")
    stack.await_ready()


def environment(place: Place, folder: Path) -> dict[str, str]:
    """Return the environment of the stack's processes: they import this checkout and see no other settings."""
    kept = {name: value for name, value in environ.items() if not name.startswith("TUNEWRIGHT_")}
    folders = {"TUNEWRIGHT_DATA_DIR": str(folder), "TUNEWRIGHT_CACHE_DIR": str(folder / "cache")}
    urls = {"DATABASE_URL": place.database_url, "REDIS_URL": place.redis_url, "STORAGE_URL": str(place.storage_url)}
    return kept | SHORT_TIMES | folders | urls | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def add_tiny_model(stack: PageStack, name: str = "llama-tiny") -> None:
    """Add a model that light workers can preview with and a CPU can train. Its weights are made in another process,
    which imports torch."""
    path = stack.folder / "models" / name
    build = (
        "import sys; from pathlib import Path; from tests.fixtures.tiny_models import TURN_TEMPLATE, build_tiny_model; "
        "build_tiny_model(Path(sys.argv[1]), chat_template=TURN_TEMPLATE)"
    )
    for command in (["-c", build, str(path)], ["-m", "app.models", "add", name, "--path", str(path)]):
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=stack.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
