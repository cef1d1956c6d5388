"""Checkpoints written beside the training, one at a time."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from safetensors import SafetensorError

from app.domain.events.job_events import WarningIssued
from worker.training.checkpoint.checkpoint import Snapshot, write_checkpoint
from worker.training.runtime.channel import Channel
from worker.training.runtime.messages import CheckpointWritten, EventMessage


class CheckpointWriter:
    """A thread that writes snapshots below `root`, and says so when one is on disk. A disk that fails costs the
    checkpoint, and not the training. Leaving the `with` waits for the last one."""

    def __init__(
        self, root: Path, channel: Channel, machine: str, spent: Callable[[float], None] | None = None
    ) -> None:
        """`spent` hears the seconds that a write took: the processor's for a copy, which is written beside the
        training."""
        self._root, self._channel, self._machine, self._spent = root, channel, machine, spent
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint", initializer=_give_way)
        self._writing: Future[None] | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._thread.shutdown()

    def write(self, snapshot: Snapshot) -> None:
        """Returns at once if it is a copy. Call `wait` before taking the snapshot, so that there is never more than one
        in memory."""
        assert self._writing is None
        self._writing = self._thread.submit(self._write, snapshot)
        if not snapshot.is_copy:
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written; raises what is no fault of the disk."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, snapshot: Snapshot) -> None:
        clock = time.thread_time if snapshot.is_copy else time.monotonic
        began = clock()
        try:
            path = write_checkpoint(self._root, snapshot)
        except (OSError, SafetensorError) as error:
            text = (
                f"The checkpoint of step {snapshot.step} could not be written ({error}). The training goes on; a crash "
                "now would take it back to the checkpoint before."
            )
            self._channel.say(EventMessage(event=WarningIssued(code="checkpoint_failed", detail=text)))
        else:
            if self._spent is not None:
                self._spent(clock() - began)
            self._channel.say(CheckpointWritten(step=snapshot.step, path=path, machine=self._machine))


def _give_way() -> None:
    """Training comes first: a thread of low priority takes the moments in which a core has nothing else to do."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
