"""Decides when to kill a training process, and explains why one died."""

import signal
import time
from typing import Final

from app.domain.jobs.state import FailureReason
from app.errors import StorageFull
from app.files import is_full
from app.jobs.queue.deadline import SPENT
from app.secrets.redaction import redact_error
from worker.attempt.metrics.reporter import Heartbeat
from worker.processes.training import TrainingProcess
from worker.training.runtime.messages import ChildMessage, Failed

AWAKE_SECONDS: Final = 1.0
"""Limits the time that counts as elapsed between two checks. A worker that was suspended or blocked cannot judge a
longer gap."""
LAST_LINES: Final = 5


class Watchdog:
    """Checks for time without progress and for the job's time limit."""

    def __init__(self, child: TrainingProcess, heartbeat: Heartbeat, stall_timeout_seconds: float) -> None:
        self._child, self._heartbeat, self._stall_timeout_seconds = child, heartbeat, stall_timeout_seconds
        self._looked_at, self._num_said, self._silent = time.monotonic(), child.num_said, 0.0

    def broken(self) -> Failed | None:
        now = time.monotonic()
        silent = self._child.num_said == self._num_said
        self._silent = self._silent + min(now - self._looked_at, AWAKE_SECONDS) if silent else 0.0
        self._looked_at, self._num_said = now, self._child.num_said
        if self._heartbeat.ends_at is not None and now > self._heartbeat.ends_at:
            return Failed(reason=FailureReason.deadline_exceeded, message=SPENT)
        return stalled(self._child.doing, self._silent) if self._silent > self._stall_timeout_seconds else None


def stalled(doing: str, seconds: float) -> Failed:
    text = f"The training process made no progress for {seconds:,.0f} s and was ended; it hung in {doing}."
    return Failed(reason=FailureReason.stalled, message=text)


def explain_exit(last: ChildMessage | None, child: TrainingProcess, code: int) -> ChildMessage:
    """Return the outcome of a training process that has ended.

    This is its last message, unless it broke the protocol or only reported that it died; then the exit code and the log
    explain the outcome."""
    if child.broken is not None:
        return broke_protocol(child.broken)
    if last is not None and not (isinstance(last, Failed) and last.reason is FailureReason.training_process_died):
        return last
    died = last or Failed(reason=FailureReason.training_process_died, message=how_it_died(code, child.log_tail()))
    killed = last is not None or (code == -signal.SIGKILL and not child.killed)
    if not (killed and child.memory.have_risen()):
        return died
    text = (
        "The kernel ended the training because the memory of its machine or container was out. Take a machine with "
        'more, or a smaller batch: training.memory "min", a smaller max_seq_len, gradient_checkpointing true. '
    )
    return Failed(reason=FailureReason.out_of_memory, message=text + died.message)


def broke_protocol(how: str) -> Failed:
    text = f"The training process did what no training of this release does: {how}. It was ended."
    return Failed(reason=FailureReason.protocol_broken, message=text)


def failure_from_exception(error: Exception) -> Failed:
    """Return the failure for an exception of the worker itself."""
    if isinstance(error, StorageFull):
        return Failed(reason=FailureReason.disk_full, message="It is storage that is full.")
    if isinstance(error, OSError) and is_full(error):
        return Failed(reason=FailureReason.disk_full, message=redact_error(error))
    why = f"The worker failed ({redact_error(error)}); its log tells more."
    return Failed(reason=FailureReason.internal_error, message=why)


def how_it_died(code: int, tail: str) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
    last_lines = "\n".join(tail.strip().splitlines()[-LAST_LINES:])
    return f"The training process {how}. Its last words:\n{last_lines}"
