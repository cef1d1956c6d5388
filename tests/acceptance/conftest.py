"""Provides the local stack as `tunewright up` starts it, with short leases and a tiny model in its registry."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from app.domain.jobs.state import FINAL
from tests.fixtures.tiny_models import build_tiny_model
from tunewright import Client, TunewrightError

ROOT = Path(__file__).parents[2]
Done = subprocess.CompletedProcess[str]
Type = Callable[..., Done]
SHORT_TIMES = {
    "TUNEWRIGHT_LEASE_SECONDS": "6",
    "TUNEWRIGHT_HEARTBEAT_SECONDS": "1",
    "TUNEWRIGHT_RECOVERY_SECONDS": "0.5",
    "TUNEWRIGHT_POLL_SECONDS": "1",
    "TUNEWRIGHT_TRAINING_THREADS": "2",
}


class Stack(NamedTuple):
    data: Path
    process: subprocess.Popen[bytes]
    server: dict[str, Any]

    def client(self) -> Client:
        return Client(self.server["url"], (self.data / "api_key").read_text().strip())

    def environment(self) -> dict[str, str]:
        return environment(self.data) | {
            "DATABASE_URL": self.server["database_url"],
            "REDIS_URL": self.server["redis_url"],
        }


def environment(data: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TUNEWRIGHT_")}
    for name in ("DATABASE_URL", "REDIS_URL", "STORAGE_URL"):
        kept.pop(name, None)
    folders = {"TUNEWRIGHT_DATA_DIR": str(data), "TUNEWRIGHT_CACHE_DIR": str(data / "cache")}
    return kept | SHORT_TIMES | folders | more


def start_stack(data: Path, **more: str) -> Stack:
    log = data.with_name(data.name + ".log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "app.local", "--data-dir", str(data), "--port", "0"],
        cwd=ROOT,
        env=environment(data, **more),
        stdout=log,
        stderr=log,
    )
    log.close()
    server_file = data / "server.json"
    until = time.monotonic() + 90
    # A killed stack leaves its server.json behind.
    while not (server_file.exists() and json.loads(server_file.read_text())["pid"] == process.pid):
        assert process.poll() is None, Path(log.name).read_text()
        assert time.monotonic() < until, Path(log.name).read_text()
        time.sleep(0.1)
    return Stack(data, process, json.loads(server_file.read_text()))


def stop_stack(stack: Stack) -> None:
    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(timeout=60) == 0


@pytest.fixture(scope="session")
def stack_folder() -> Iterator[Path]:
    """Create a folder that other users can enter, since PostgreSQL runs as another user under root."""
    with tempfile.TemporaryDirectory(prefix="tunewright-stack-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def tiny_model(stack_folder: Path) -> Path:
    return build_tiny_model(stack_folder / "models" / "tiny")


@pytest.fixture(scope="session")
def stack(stack_folder: Path, tiny_model: Path) -> Iterator[Stack]:
    mlflow = {"MLFLOW_TRACKING_URI": f"file:{stack_folder}/data/mlruns", "MLFLOW_ALLOW_FILE_STORE": "true"}
    others = {
        "TUNEWRIGHT_WEBHOOK_ALLOWLIST": "127.0.0.1",
        "WANDB_MODE": "offline",
        "TUNEWRIGHT_WORKER_LABELS": "pool=demo",
    }
    started = start_stack(stack_folder / "data", **mlflow, **others)
    add = [sys.executable, "-m", "app.models", "add", "tiny", "--path", str(tiny_model)]
    subprocess.run(add, cwd=ROOT, env=started.environment(), check=True, stdout=subprocess.DEVNULL)
    yield started
    stop_stack(started)


@pytest.fixture(scope="module")
def make_stack(tiny_model: Path) -> Iterator[Callable[..., Stack]]:
    """Return a function that starts a separate stack with the given settings, which tests may damage."""
    started: list[Stack] = []

    def make(**more: str) -> Stack:
        folder = Path(tempfile.mkdtemp(prefix="tunewright-survival-"))
        folder.chmod(0o755)
        stack = start_stack(folder / "data", **more)
        started.append(stack)
        add = [sys.executable, "-m", "app.models", "add", "tiny", "--path", str(tiny_model)]
        subprocess.run(add, cwd=ROOT, env=stack.environment(), check=True, stdout=subprocess.DEVNULL)
        return stack

    yield make
    for stack in started:
        if stack.process.poll() is None:
            stop_stack(stack)
        shutil.rmtree(stack.data.parent, ignore_errors=True)


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(autouse=True)
def cancel_leftover_jobs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Cancel the jobs that a failed test leaves behind, since they would occupy the stack's only worker."""
    stack: Stack | None = request.getfixturevalue("stack") if "stack" in request.fixturenames else None
    yield
    if stack is not None and request.node.stash.get(FAILED, False):
        with stack.client() as client, suppress(TunewrightError):
            for job in client.list_jobs():
                if job.state not in FINAL:
                    client.cancel_job(job.id)


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with stack.client() as client:
        yield client


@pytest.fixture
def type_in(stack: Stack, tmp_path: Path) -> Type:
    """Return a function that runs a `tunewright` command in an empty folder and checks its exit status."""

    def type_in(*words: object, status: int = 0, **variables: str) -> Done:
        command = [sys.executable, "-m", "tunewright", *map(str, words)]
        env = environment(stack.data) | {"PYTHONPATH": str(ROOT), "COLUMNS": "160"} | variables
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return type_in


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"prompt": f"The cat number {n}", "completion": f" sat on mat {n % 3}."}) for n in range(12)]
    path.write_text("\n".join(lines))
    return path


@contextmanager
def paused(stack: Stack, name: str) -> Iterator[None]:
    """Suspend one of the stack's processes, as if its machine had stalled."""
    [pid] = [
        process.pid for process in psutil.Process(stack.process.pid).children() if name in " ".join(process.cmdline())
    ]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
