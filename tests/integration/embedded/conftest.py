import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.local.postgres import embedded_postgres

ROOT = Path(__file__).parents[3]


@pytest.fixture
def place() -> Iterator[Path]:
    """A temporary folder that a system user can enter, too; pytest's own are closed to the one that root's
    PostgreSQL runs as."""
    with open_temporary_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """A data folder whose PostgreSQL has run before: most tests need no new cluster, which takes seconds to make."""
    with open_temporary_folder() as folder:
        with embedded_postgres(folder, durable=False):
            pass
        yield folder


@contextlib.contextmanager
def open_temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tunewright-test-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def deep(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path too long for a socket, and with characters that a connection URL gives a meaning."""
    monkeypatch.setattr("app.local.folder.short_temporary_folder", lambda: place)
    return place / ("deep/" * 20) / "it's, a 100% two"


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python with these arguments; what it prints can be read line by line. Killed at the end of the test."""
    with contextlib.ExitStack() as started:

        def start(*arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
            process = started.enter_context(
                subprocess.Popen(
                    [*prefix, sys.executable, *arguments],
                    cwd=ROOT,
                    env=os.environ | environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            started.callback(process.kill)
            return process

        yield start


@pytest.fixture
def eventually() -> Callable[..., None]:
    def wait(condition: Callable[[], object], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.05)

    return wait
