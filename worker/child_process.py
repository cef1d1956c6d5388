"""Starts, feeds and kills child processes that exchange lines of JSON."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from pydantic import BaseModel

from app.failpoints import around

ROOT: Final = Path(__file__).parents[1]
"""Child processes import `app` and `worker` from this folder."""


def start_process(
    command: Sequence[str],
    step: str,
    *,
    env: dict[str, str],
    stdout: IO[bytes] | int = subprocess.PIPE,
    stderr: IO[bytes] | None = None,
    cwd: Path | None = None,
    own_group: bool = True,
) -> subprocess.Popen[bytes]:
    """Start a process with a pipe to its stdin. `step` names the failpoints around the start."""
    with around(step):
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=env,
            start_new_session=own_group,
        )


def make_environment(passed_on: Iterable[str], own: dict[str, str]) -> dict[str, str]:
    """Return the process's environment: the variables in `passed_on` from the worker's environment, and those in
    `own`."""
    passed = {name: os.environ[name] for name in passed_on if name in os.environ}
    return passed | {"PYTHONPATH": str(ROOT)} | own


class ChildProcess:
    """Controls a process started by `start_process`. `kill` and `reap` end it and release its resources."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process
        self._reader: threading.Thread | None = None

    def start_reader(self, read: Callable[[], None], name: str) -> None:
        """Run `read` in a thread to read the process's stdout to its end."""
        self._reader = threading.Thread(target=read, name=name, daemon=True)
        self._reader.start()

    def send(self, message: BaseModel) -> bool:
        """Write a message to stdin as a line of JSON; return False if the process has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(message.model_dump_json().encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def feed(self, chunks: Iterable[bytes]) -> None:
        """Write chunks to stdin and close it. Stops early if the process stops reading; its exit code explains why."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as pipe:
            for chunk in chunks:
                pipe.write(chunk)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, negative for a signal. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        return self._process.wait(timeout)

    def kill(self) -> None:
        """Kill the whole process group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Wait until the process and its reader have ended, close its pipes, and return its exit code."""
        code = self.wait()
        if self._reader is not None:
            self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # The process did not read everything.
                    pipe.close()
        return code
