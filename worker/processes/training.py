"""Starts, reads and ends a training process.

It runs in a separate process group, without credentials in its environment, and exchanges the messages of
`worker.training.runtime.messages`. A thread always reads its pipe, so that the worker never blocks the training. The
process may be started before there is a job for it (see `standby`); until then its stderr is the worker's."""

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
from worker.processes.child_messages import MessageChecks, MessageQueue, ProtocolBroken, read_lines
from worker.processes.oom_score import set_oom_score
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
"""Starts the process. A replacement must use the same protocol."""

PASSED_ON: Final = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "TRITON_CACHE_DIR"),
    *("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"),
    *("FAILPOINT", "FAILPOINT_ONCE"),
)
"""The training process may see these environment variables."""
LOG_TAIL_BYTES: Final = 64 * 2**10
EXIT_SECONDS: Final = 2.0
"""Wait for a process that has closed its pipe, so that its exit code is not replaced by a kill."""
OOM_SCORE_ADJ: Final = "500"
"""Is added to the kernel's out-of-memory score, so that the training is killed rather than the worker, which can report
it."""


class TrainingProcess(ChildProcess):
    def __init__(self, stderr: IO[bytes] | None = None) -> None:
        super().__init__(start_process(COMMAND, "start_training", env=environment(), stderr=stderr, cwd=Path("/")))
        self.messages = MessageQueue()
        """Queues the process's messages about its job, without metrics. None marks the end."""
        self.ready: Ready | None = None
        """Is set once the process is ready for a job."""
        self.begun = False
        """Says whether the process has sent any message about its job."""
        self.broken: str | None = None
        """Describes the protocol violation that the process was killed for."""
        self.num_messages = 0
        self.current_work = "startup"
        """Names the part of the work that the process started last."""
        self.killed = False
        """Says whether the worker has sent SIGKILL to the process."""
        self.log_path: Path | None = None
        self._on_metrics: Callable[[MetricsMessage], None] | None = None
        self._checks: MessageChecks | None = None
        set_oom_score(self.pid, OOM_SCORE_ADJ)
        self.memory = OutOfMemoryKills.of(self.pid)
        self.started_at = time.monotonic()
        self.start_reader(self._read, "child-pipe")

    @classmethod
    def logging_to(cls, path: Path) -> "TrainingProcess":
        """Start a process whose stderr goes to the log from the beginning."""
        with path.open("ab") as log_file:
            return cls(log_file)

    def preload(self, base_model_path: Path | None) -> None:
        self.send(Preload(base_model_path=base_model_path))

    def begin(self, request: TrainingRequest, on_metrics: Callable[[MetricsMessage], None]) -> None:
        """Send the job to the process. `on_metrics` is called for each metrics message from the thread that reads the
        pipe, so it must neither block nor raise."""
        assert request.log_path is not None
        self._on_metrics, self._checks = on_metrics, MessageChecks(request.work_dir)
        request.log_path.touch()
        self.log_path = request.log_path
        self.send(request)

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in read_lines(self._process.stdout):
                self._handle_message(parse_child_message.validate_json(line), len(line))
        except (ValidationError, ProtocolBroken) as error:
            self.broken = str(error) if isinstance(error, ProtocolBroken) else "it sent an invalid message"
            log.error("a training process violated the protocol", pid=self.pid, error=str(error)[:500])
            self.kill()
        finally:
            self.messages.put(None)

    def _handle_message(self, message: ChildMessage, num_bytes: int) -> None:
        if self._checks is not None:
            self._checks.check(message)
        self.num_messages += 1
        if isinstance(message, Ready):
            self.ready = message
            return
        self.begun = True
        if isinstance(message, WorkStarted):
            self.current_work = message.what
        elif isinstance(message, MetricsMessage) and self._on_metrics is not None:
            self._on_metrics(message)
        else:
            self.messages.put(message, num_bytes)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def request_stop(self, stop: Stop) -> None:
        self.send(stop)

    def kill(self) -> None:
        """Kill the whole process group."""
        self.killed = True
        super().kill()

    def end(self) -> int:
        """Kill the rest of the process group, and return the exit code, negative for a signal."""
        had_exited = not self.killed and not self.is_alive()
        self.kill()
        self.killed = not had_exited
        return self.reap()

    def wait_for_exit(self) -> None:
        """Wait briefly for a process that has closed its pipe."""
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
            return ""  # The process removed its log.


def environment() -> dict[str, str]:
    # CUDA_VISIBLE_DEVICES must number the GPUs in the order that the worker reports, which is that of nvidia-smi.
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return make_environment(PASSED_ON, order | {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"})
