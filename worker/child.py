"""The training process as its parent sees it: start, pipe, end.

It is exec'ed in a process group of its own, with no credentials in its environment, and it speaks lines of
`worker.training.protocol`. A thread drains its pipe at all times, so that nothing here can hold up training. It may be
started before there is a job for it (see `spare`); what it writes to stderr until then goes where the worker's does.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Final

import structlog
from pydantic import ValidationError

import worker
from app.domain.failpoint import around
from worker.training.protocol import Line, Ready, Request, Said, Stop, Warm, parse_said

log = structlog.get_logger()

PASSED_ON: Final = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"),
    *("FAILPOINT", "FAILPOINT_ONCE"),
)
"""Environment the child may see."""
LOG_TAIL_BYTES: Final = 64 * 2**10


class Child:
    def __init__(self, stderr: IO[bytes] | None = None) -> None:
        self.said: queue.Queue[Said | None] = queue.Queue()
        """What the child said of its job; None is its end."""
        self.ready: Ready | None = None
        """Its word that it waits for a job."""
        self.begun = False
        """Whether it has said anything of its job."""
        self.log_path: Path | None = None
        with around("start_training"):
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "worker.training"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd="/",
                env=environment(),
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.started_at = time.monotonic()
        self._reader = threading.Thread(target=self._read, name="child-pipe", daemon=True)
        self._reader.start()

    @classmethod
    def logging_to(cls, path: Path) -> "Child":
        """One whose very first words are in the log."""
        with path.open("ab") as log_file:
            return cls(log_file)

    def warm(self, base_model_path: Path | None) -> None:
        self._tell(Warm(base_model_path=base_model_path))

    def begin(self, request: Request) -> None:
        assert request.log_path is not None
        request.log_path.touch()
        self.log_path = request.log_path
        self._tell(request)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self._heard(parse_said.validate_json(line))
            except ValidationError as error:
                log.error("training process broke the protocol", line=line[:500], error=str(error))
                self.kill()
        self.said.put(None)

    def _heard(self, said: Said) -> None:
        if isinstance(said, Ready):
            self.ready = said
        else:
            self.begun = True
            self.said.put(said)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask_to_stop(self, stop: Stop) -> None:
        self._tell(stop)

    def _tell(self, line: Line) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.model_dump_json().encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # It is gone; its end is told by the pipe that is read.

    def kill(self) -> None:
        """End the whole process group at once."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def end(self) -> int:
        """Make sure that nothing of it is left; its exit code, negative for a signal."""
        self.kill()
        code = self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # Words that a dead child never read.
        return code

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def log_tail(self) -> str:
        if self.log_path is None:
            return ""
        with self.log_path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - LOG_TAIL_BYTES, 0))
            return file.read().decode(errors="replace")


def environment() -> dict[str, str]:
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    root = Path(worker.__file__).parents[1]
    return passed | {"PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
