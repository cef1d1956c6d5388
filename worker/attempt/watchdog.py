"""Decides when a training process must stop or is killed, and explains why one died."""

import math
import signal
import threading
import time
from typing import Final

from app.domain.jobs.state import FailureReason, JobState
from app.errors import StorageFull
from app.files import is_full
from app.jobs.queue.deadline import SPENT
from app.secrets.redaction import redact_error
from worker.attempt.heartbeat import Heartbeat
from worker.processes.training import TrainingProcess
from worker.training.runtime.messages import ChildMessage, Failed, Stop

AWAKE_SECONDS: Final = 1.0
"""Limits the time that counts as elapsed between two checks. A worker that was suspended or blocked cannot judge a
longer gap."""
LAST_LINES: Final = 5


class StopRequests:
    """Finds out whether the attempt must stop: because its user or a drain requests it, or because it is lost."""

    def __init__(self, heartbeat: Heartbeat, drain: threading.Event, drain_timeout_seconds: float) -> None:
        self._heartbeat, self._drain, self._drain_timeout_seconds = heartbeat, drain, drain_timeout_seconds
        self._drain_ends = math.inf

    def find(self) -> Stop | None:
        """Return the stop that is requested of the training process, if there is one."""
        if self._heartbeat.state is JobState.cancelling:
            return Stop(why="cancel")
        wanted = self._heartbeat.state is JobState.running and not self._is_draining()
        return None if wanted else Stop(why="drain")

    def must_stop(self) -> bool:
        return self._heartbeat.stale or self.find() is not None

    def is_given_up(self) -> bool:
        """Return whether the attempt is lost, or PostgreSQL was unreachable for longer than a drain may take. In the
        second case the lease expires and the next attempt resumes from the last checkpoint."""
        return self._heartbeat.stale or (self._is_draining() and time.monotonic() > self._drain_ends)

    def _is_draining(self) -> bool:
        if self._drain.is_set():
            self._drain_ends = min(self._drain_ends, time.monotonic() + self._drain_timeout_seconds)
        return self._drain.is_set()


class Watchdog:
    """Checks for time without progress and for the job's time limit."""

    def __init__(self, child: TrainingProcess, heartbeat: Heartbeat, stall_timeout_seconds: float) -> None:
        self._child, self._heartbeat, self._stall_timeout_seconds = child, heartbeat, stall_timeout_seconds
        self._checked_at, self._num_messages, self._silent = time.monotonic(), child.num_messages, 0.0

    def find_failure(self) -> Failed | None:
        """Return the failure to kill the training process for, if there is one."""
        now = time.monotonic()
        silent = self._child.num_messages == self._num_messages
        self._silent = self._silent + min(now - self._checked_at, AWAKE_SECONDS) if silent else 0.0
        self._checked_at, self._num_messages = now, self._child.num_messages
        if self._heartbeat.ends_at is not None and now > self._heartbeat.ends_at:
            return Failed(reason=FailureReason.deadline_exceeded, message=SPENT)
        return (
            stall_failure(self._child.current_work, self._silent)
            if self._silent > self._stall_timeout_seconds
            else None
        )


def stall_failure(current_work: str, seconds: float) -> Failed:
    message = f"The training process made no progress for {seconds:,.0f} s in {current_work} and was killed."
    return Failed(reason=FailureReason.stalled, message=message)


def explain_exit(last: ChildMessage | None, child: TrainingProcess, code: int) -> ChildMessage:
    """Return the outcome of a training process that has ended.

    This is its last message, unless it broke the protocol or only reported that it died; then the exit code and the log
    explain the outcome."""
    if child.broken is not None:
        return protocol_failure(child.broken)
    if last is not None and not (isinstance(last, Failed) and last.reason is FailureReason.training_process_died):
        return last
    died = last or Failed(reason=FailureReason.training_process_died, message=describe_exit(code, child.log_tail()))
    killed = last is not None or (code == -signal.SIGKILL and not child.killed)
    if not (killed and child.memory.have_risen()):
        return died
    message = (
        "The kernel killed the training process because its machine or container ran out of memory. Use a machine with "
        'more memory, or reduce memory use: training.memory "min", a smaller max_seq_len, gradient_checkpointing true. '
    )
    return Failed(reason=FailureReason.out_of_memory, message=message + died.message)


def protocol_failure(violation: str) -> Failed:
    message = f"The training process violated the worker protocol: {violation}. The attempt was stopped."
    return Failed(reason=FailureReason.protocol_broken, message=message)


def failure_from_exception(error: Exception) -> Failed:
    """Return the failure for an exception of the worker itself."""
    if isinstance(error, StorageFull):
        return Failed(reason=FailureReason.disk_full, message="The storage is full.")
    if isinstance(error, OSError) and is_full(error):
        return Failed(reason=FailureReason.disk_full, message=redact_error(error))
    message = f"Internal error in the worker ({redact_error(error)}); see the worker's log."
    return Failed(reason=FailureReason.internal_error, message=message)


def describe_exit(code: int, tail: str) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
    last_lines = "\n".join(tail.strip().splitlines()[-LAST_LINES:])
    return f"The training process {how}. Last lines of its log:\n{last_lines}"
