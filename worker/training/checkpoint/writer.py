"""Writes checkpoints concurrently with the training, one at a time."""

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
    """Writes snapshots below `root` in a thread, and reports each that is on disk. A disk that fails loses the
    checkpoint, but does not end the training. Leaving the `with` waits for the last write."""

    def __init__(
        self, root: Path, channel: Channel, machine: str, add_cost: Callable[[float], None] | None = None
    ) -> None:
        """Prepare the writer. `add_cost` receives the seconds that a write took. For a copy, which is written
        concurrently with the training, these are processor seconds."""
        self._root, self._channel, self._machine, self._add_cost = root, channel, machine, add_cost
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint", initializer=_set_lowest_priority)
        self._writing: Future[None] | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._thread.shutdown()

    def write(self, snapshot: Snapshot) -> None:
        """Write a snapshot; return at once if it is a copy. Call `wait` before taking the snapshot, so that there is
        never more than one in memory."""
        assert self._writing is None
        self._writing = self._thread.submit(self._write, snapshot)
        if not snapshot.is_copy:
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written. Raises errors that the disk did not cause."""
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
                f"Could not write the checkpoint at step {snapshot.step} ({error}). Training continues; after a crash "
                "it would resume from the previous checkpoint."
            )
            self._channel.send(EventMessage(event=WarningIssued(code="checkpoint_failed", detail=text)))
        else:
            if self._add_cost is not None:
                self._add_cost(clock() - began)
            self._channel.send(CheckpointWritten(step=snapshot.step, path=path, machine=self._machine))


def _set_lowest_priority() -> None:
    """Set the lowest priority: training comes first, and the thread runs only while a core is idle."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
