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
def public_folder() -> Iterator[Path]:
    """Create a temporary folder that other users can enter. pytest's own folders are closed to the user that PostgreSQL
    runs as under root."""
    with open_temporary_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """Create a data folder in which PostgreSQL has run before. A new cluster takes seconds, and most tests need
    none."""
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
def long_path(public_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a path that is too long for a socket and contains characters that are special in connection URLs."""
    monkeypatch.setattr("app.local.folder.short_temporary_folder", lambda: public_folder)
    return public_folder / ("deep/" * 20) / "it's, a 100% two"


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts Python with the arguments and pipes for its output. The process is killed at the
    end of the test."""
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
            assert time.monotonic() < deadline, "the condition did not become true in time"
            time.sleep(0.05)

    return wait
