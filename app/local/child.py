"""One child process: started with its parent's life as its own limit, stopped by its own signal."""

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

Nap = Callable[[float], None]
"""Sleeps for seconds; may raise StopRequested."""


def nothing() -> None:
    pass


@dataclass(frozen=True)
class ChildSpec:
    name: str
    command: Sequence[str]
    """The program's absolute path and its arguments."""
    stage: int = 0
    """Stages are stopped from the highest down; the children of one stage together."""
    stop_signal: signal.Signals = signal.SIGTERM
    """Asks for an orderly end; also sent by the kernel when the parent dies."""
    stop_seconds: float = 10
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: Path | None = None
    ids: tuple[int, int] | None = None
    """User and group id to drop to."""
    fds: Sequence[int] = ()
    prepare: Callable[[], None] = nothing
    """Called before each start."""
    stdout: IO[bytes] | None = None
    """Where its output goes instead of its log."""


class Child:
    def __init__(self, spec: ChildSpec, logs: Path):
        self.spec = spec
        self.log = logs / f"{spec.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.log_start = 0
        """Where in the log this start's words begin."""

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
        """None while it runs, and before its first start."""
        return self.process.poll() if self.process else None

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ask_to_stop(self) -> None:
        if self.process and self.is_running():
            self.process.send_signal(self.spec.stop_signal)

    def kill(self) -> None:
        """Kills it and whatever is left in its session's process group."""
        if self.process and self.is_running():
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def why_ended(self) -> str:
        code = self.exit_code()
        assert code is not None
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def last_words(self, lines: int = 20) -> str:
        """The end of what it wrote to its log since its start."""
        with self.log.open("rb") as log:
            # A log that its process has begun again since is shorter than it was.
            log.seek(self.log_start if self.log_start <= self.log.stat().st_size else 0)
            words = log.read().decode(errors="replace")
        return "\n".join(words.strip().splitlines()[-lines:])

    def complaint(self) -> str:
        """The one line of its last words that is most likely the reason of its end."""
        lines = self.last_words().splitlines()
        errors = [line for line in lines if re.search(r"FATAL|PANIC|Error|ERROR", line)]
        return (errors or lines or ["it said nothing"])[-1].strip()


def rotated(log: Path) -> Path:
    """Moves a log that has grown large aside, so that two of them at most take space."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        with around("rotate_log"):
            log.replace(log.with_suffix(".log.1"))
    return log


def stop_children(children: Sequence[Child], nap: Nap, patience: Callable[[float], float] = float) -> None:
    """Stops them stage by stage; `patience` may shorten the seconds a child is given."""
    for stage in sorted({child.spec.stage for child in children}, reverse=True):
        together = [child for child in children if child.spec.stage == stage]
        for child in together:
            child.ask_to_stop()
        began = time.monotonic()
        while waited_for := [child for child in together if child.is_running()]:
            if time.monotonic() - began > patience(max(child.spec.stop_seconds for child in waited_for)):
                break
            nap(0.05)
        for child in together:
            child.kill()
