"""Manages one child process: it ends with its parent, and is stopped by a configured signal."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from app.failpoints import around

LAUNCH = Path(__file__).with_name("launch.py")
LOG_BYTES = 10 * 2**20

Sleep = Callable[[float], None]
"""Sleeps for seconds, and may raise StopRequested."""


def do_nothing() -> None:
    pass


@dataclass(frozen=True)
class ChildSpec:
    name: str
    command: Sequence[str]
    """Holds the program's absolute path and its arguments."""
    stage: int = 0
    """Orders the stops: from the highest stage down, the children of one stage together."""
    stop_signal: signal.Signals = signal.SIGTERM
    """Requests an orderly end. The kernel also sends it when the parent dies."""
    stop_seconds: float = 10
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: Path | None = None
    ids: tuple[int, int] | None = None
    """Holds the user and group id to switch to."""
    fds: Sequence[int] = ()
    prepare: Callable[[], None] = do_nothing
    """Is called before each start."""
    stdout: IO[bytes] | None = None
    """Receives its standard output instead of the log."""


class Child:
    def __init__(self, spec: ChildSpec, logs: Path):
        self.spec = spec
        self.log = logs / f"{spec.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.log_start = 0
        """Is the position in the log at which this start's output begins."""

    def start(self) -> None:
        spec = self.spec
        spec.prepare()
        uid, gid = spec.ids or (os.geteuid(), os.getegid())
        launch = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(spec.stop_signal.value)]
        with rotated(self.log).open("ab") as log, around("start_process"):
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                [*launch, str(uid), str(gid), *spec.command],
                stdin=subprocess.DEVNULL,
                stdout=spec.stdout or log,
                stderr=log,
                env=spec.env,
                cwd=spec.cwd,
                pass_fds=spec.fds,
                start_new_session=True,
            )
        self.started = time.monotonic()

    def exit_code(self) -> int | None:
        """Return the exit code, or None while it runs and before its first start."""
        return self.process.poll() if self.process else None

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def request_stop(self) -> None:
        if self.process and self.is_running():
            self.process.send_signal(self.spec.stop_signal)

    def kill(self) -> None:
        """Kill it and all processes left in its session's process group."""
        if self.process and self.is_running():
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def describe_exit(self) -> str:
        code = self.exit_code()
        assert code is not None
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def read_log_tail(self, lines: int = 20) -> str:
        """Return the end of its log since its start."""
        with self.log.open("rb") as log:
            # A log is shorter than before if its process has moved it aside in the meantime.
            log.seek(self.log_start if self.log_start <= self.log.stat().st_size else 0)
            words = log.read().decode(errors="replace")
        return "\n".join(words.strip().splitlines()[-lines:])

    def find_error_line(self) -> str:
        """Return the line at the end of the log that most probably explains the exit."""
        lines = self.read_log_tail().splitlines()
        errors = [line for line in lines if re.search(r"FATAL|PANIC|Error|ERROR", line)]
        return (errors or lines or ["it printed nothing"])[-1].strip()


def rotated(log: Path) -> Path:
    """Move a large log aside, so that at most two of them use disk space."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        with around("rotate_log"):
            log.replace(log.with_suffix(".log.1"))
    return log


def stop_children(children: Sequence[Child], sleep: Sleep, limit_wait: Callable[[float], float] = float) -> None:
    """Stop children stage by stage. `limit_wait` may shorten the seconds that a child is given."""
    for stage in sorted({child.spec.stage for child in children}, reverse=True):
        together = [child for child in children if child.spec.stage == stage]
        for child in together:
            child.request_stop()
        began = time.monotonic()
        while waited_for := [child for child in together if child.is_running()]:
            if time.monotonic() - began > limit_wait(max(child.spec.stop_seconds for child in waited_for)):
                break
            sleep(0.05)
        for child in together:
            child.kill()
