"""The training process as its parent sees it: start, pipe, end.

It is exec'ed in a process group of its own, with no credentials in its environment, and it speaks lines of
`worker.training.runtime.messages`. A thread drains its pipe at all times, so that nothing here can hold up training. It
may be started before there is a job for it (see `standby`); what it writes to stderr until then goes where the worker's
does.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import structlog
from pydantic import ValidationError

from worker.child_process import ChildProcess, make_environment, start_process
from worker.processes.cgroup import OutOfMemoryKills
from worker.processes.child_files import open_plain
from worker.processes.child_messages import Checks, ProtocolBroken, WordQueue, read_lines
from worker.processes.oom_score import let_go_first
from worker.training.runtime.messages import (
    ChildMessage,
    MetricsMessage,
    Preload,
    Ready,
    Stop,
    TrainingRequest,
    WorkStarted,
    parse_child_message,
)

log = structlog.get_logger()

COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "worker.training")
"""What is exec'ed; whatever it is, it speaks the protocol."""

PASSED_ON: Final = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "TRITON_CACHE_DIR"),
    *("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"),
    *("FAILPOINT", "FAILPOINT_ONCE"),
)
"""Environment the child may see."""
LOG_TAIL_BYTES: Final = 64 * 2**10
EXIT_SECONDS: Final = 2.0
"""For a process that has closed its pipe: its exit code is to be its own."""
OOM_SCORE_ADJ: Final = "500"
"""Added to the kernel's score when memory is out: the training, and not the worker that can tell of it."""


class TrainingProcess(ChildProcess):
    def __init__(self, stderr: IO[bytes] | None = None) -> None:
        super().__init__(start_process(COMMAND, "start_training", env=environment(), stderr=stderr, cwd=Path("/")))
        self.said = WordQueue()
        """What the child said of its job, measurements apart; None is its end."""
        self.ready: Ready | None = None
        """Its word that it waits for a job."""
        self.begun = False
        """Whether it has said anything of its job."""
        self.broken: str | None = None
        """What it did against the protocol, for which it was killed."""
        self.num_said = 0
        self.doing = "its start"
        """The part of the work that it began last."""
        self.killed = False
        """Whether we have sent it a SIGKILL."""
        self.log_path: Path | None = None
        self._measured: Callable[[MetricsMessage], None] | None = None
        self._checks: Checks | None = None
        let_go_first(self.pid, OOM_SCORE_ADJ)
        self.memory = OutOfMemoryKills.of(self.pid)
        self.started_at = time.monotonic()
        self.start_reader(self._read, "child-pipe")

    @classmethod
    def logging_to(cls, path: Path) -> "TrainingProcess":
        """One whose very first words are in the log."""
        with path.open("ab") as log_file:
            return cls(log_file)

    def preload(self, base_model_path: Path | None) -> None:
        self.tell(Preload(base_model_path=base_model_path))

    def begin(self, request: TrainingRequest, measured: Callable[[MetricsMessage], None]) -> None:
        """`measured` hears each measurement, from the thread that drains the pipe: it must neither wait nor fail."""
        assert request.log_path is not None
        self._measured, self._checks = measured, Checks(request.work_dir)
        request.log_path.touch()
        self.log_path = request.log_path
        self.tell(request)

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in read_lines(self._process.stdout):
                self._heard(parse_child_message.validate_json(line), len(line))
        except (ValidationError, ProtocolBroken) as error:
            self.broken = str(error) if isinstance(error, ProtocolBroken) else "it said what no training says"
            log.error("training process broke the protocol", pid=self.pid, error=str(error)[:500])
            self.kill()
        finally:
            self.said.put(None)

    def _heard(self, said: ChildMessage, num_bytes: int) -> None:
        if self._checks is not None:
            self._checks.check(said)
        self.num_said += 1
        if isinstance(said, Ready):
            self.ready = said
            return
        self.begun = True
        if isinstance(said, WorkStarted):
            self.doing = said.what
        elif isinstance(said, MetricsMessage) and self._measured is not None:
            self._measured(said)
        else:
            self.said.put(said, num_bytes)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask_to_stop(self, stop: Stop) -> None:
        self.tell(stop)

    def kill(self) -> None:
        """End the whole process group at once."""
        self.killed = True
        super().kill()

    def end(self) -> int:
        """Make sure that nothing of it is left; its exit code, negative for a signal."""
        ended_by_itself = not self.killed and not self.is_alive()
        self.kill()
        self.killed = not ended_by_itself
        return self.reap()

    def let_end(self) -> None:
        """Wait, not for long, for one that has closed its pipe."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(EXIT_SECONDS)

    def log_tail(self) -> str:
        if self.log_path is None:
            return ""
        try:
            with open_plain(self.log_path) as file:
                file.seek(max(file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES, 0))
                return file.read(LOG_TAIL_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return ""  # The process has removed it.


def environment() -> dict[str, str]:
    # So that a number in CUDA_VISIBLE_DEVICES means the GPU that the worker has told of, as nvidia-smi counts them.
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return make_environment(PASSED_ON, order | {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"})
