"""Checks a training process's messages: the length of lines, the number of metrics, and that paths are inside its
folder."""

import os
import queue
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from worker.training.runtime.messages import CheckpointWritten, ChildMessage, Finished, MetricsMessage, Planned, Stopped

MAX_LINE_BYTES: Final = 2**20
MAX_WAITING_BYTES: Final = 8 * 2**20
"""Limits the messages that the attempt has not handled yet."""
MAX_METRICS: Final = 64
"""Limits the number of different metric names in an attempt."""
METRIC_NAME: Final = re.compile(r"\w[\w./-]{0,99}", re.ASCII)
MAX_STEP: Final = 2**53


class ProtocolBroken(Exception):
    """Raised when the training process sent or wrote something invalid. The message is shown to the job's user."""


def read_lines(pipe: IO[bytes]) -> Iterator[bytes]:
    while line := pipe.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise ProtocolBroken("it sent a line of more than 1 MiB")
        yield line


class MessageQueue:
    """Queues messages for the attempt, up to a limit in bytes. None marks the end."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[ChildMessage | None, int]] = queue.Queue()
        self._num_bytes = 0
        self._lock = threading.Lock()

    def put(self, message: ChildMessage | None, num_bytes: int = 0) -> None:
        with self._lock:
            if self._num_bytes + num_bytes > MAX_WAITING_BYTES:
                raise ProtocolBroken("it sent messages faster than the worker could handle them")
            self._num_bytes += num_bytes
        self._queue.put((message, num_bytes))

    def get(self, timeout: float | None = None) -> ChildMessage | None:
        """Return the next message. Raises queue.Empty after `timeout` seconds."""
        message, num_bytes = self._queue.get(timeout=timeout)
        with self._lock:
            self._num_bytes -= num_bytes
        return message


class MessageChecks:
    """Validates the messages of one job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._metrics: set[str] = set()

    def check(self, message: ChildMessage) -> None:
        """Raise ProtocolBroken for a message that a correct training process never sends."""
        match message:
            case MetricsMessage():
                self._check_step(message.step)
                self._check_values(message.values)
            case CheckpointWritten():
                self._check_step(message.step)
                self._check_path(message.path)
            case Finished():
                self._check_path(message.path)
                if message.reports is not None:
                    self._check_path(message.reports)
            case Planned():
                self._check_step(message.total_steps)
                self._check_step(message.start_step)
            case Stopped():
                self._check_step(message.step)

    def _check_step(self, step: int) -> None:
        if not 0 <= step <= MAX_STEP:
            raise ProtocolBroken("it sent an invalid step number")

    def _check_values(self, values: dict[str, float]) -> None:
        self._metrics |= values.keys()
        if len(self._metrics) > MAX_METRICS:
            raise ProtocolBroken(f"it sent more than {MAX_METRICS} different metrics")
        if not all(METRIC_NAME.fullmatch(name) for name in values):
            raise ProtocolBroken("it sent a metric whose name has invalid characters")

    def _check_path(self, path: Path) -> None:
        if not is_beneath(self._folder, path):
            raise ProtocolBroken("it named a file outside its folder")


def is_beneath(folder: Path, path: Path) -> bool:
    """Return whether `path` is below `folder`, judged by the names alone. Links are checked when files are opened."""
    return path.is_relative_to(folder) and path != folder and os.pardir not in path.parts
