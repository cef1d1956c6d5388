"""Exchanges messages with the parent process: JSON lines over stdin and stdout."""

import os
import threading
import time
from collections.abc import Callable
from typing import Literal

from pydantic import TypeAdapter

from worker.training.runtime.messages import (
    Failed,
    Finished,
    ParentMessage,
    Stop,
    Stopped,
    TrainingMessage,
    TrainingRequest,
    WorkStarted,
    parse_parent_message,
)

PARENT_GONE = 3
"""Is the exit status when the parent ended first."""
PULSE_SECONDS = 1.0


class StopAsked(Exception):
    """Ends the training because the parent requested it. Raised only where nothing is half done."""


class Channel:
    """Owns the process's stdin and stdout. Other output to stdout goes to stderr, the job's log."""

    def __init__(self) -> None:
        self._output = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        # Unbuffered: a buffered reader's lock, held by the listening thread, aborts the interpreter's shutdown.
        self._input = os.fdopen(os.dup(0), "rb", buffering=0)
        self._write_lock = threading.Lock()
        self._ended = False
        self.stop_wish: Literal["drain", "cancel"] | None = None

    def receive(self) -> ParentMessage | None:
        """Read the next message; None when the parent closed the pipe. After a request, a thread reads, and nothing
        else may."""
        line = self._input.readline()
        if not line:
            return None
        message = parse_parent_message.validate_json(line)
        if isinstance(message, TrainingRequest):
            threading.Thread(target=self._listen, daemon=True).start()
        return message

    def send(self, message: TrainingMessage) -> None:
        """Write a message. It is safe to call from any thread."""
        with self._write_lock:
            self._ended = isinstance(message, Finished | Failed | Stopped)
            self._output.write(message.model_dump_json() + "\n")
            self._output.flush()

    def raise_if_stopped(self) -> None:
        if self.stop_wish:
            raise StopAsked

    def pulse(self, what: str) -> Callable[[], None]:
        """Return a function to call at each turn of a loop. It reports the work once a second and raises on a stop."""
        sent_at = 0.0

        def turn() -> None:
            nonlocal sent_at
            self.raise_if_stopped()
            if time.monotonic() - sent_at > PULSE_SECONDS:
                sent_at = time.monotonic()
                self.send(WorkStarted(what=what))

        return turn

    def _listen(self) -> None:
        stop = TypeAdapter(Stop)
        try:
            for line in self._input:
                self.stop_wish = stop.validate_json(line).why
        finally:  # also after half a line from a parent that was killed
            if not self._ended:
                os._exit(PARENT_GONE)  # at once and from any step: no process reads the result


def enter_work_dir(request: TrainingRequest) -> None:
    """Enter the attempt's folder and write to its log. A standby process started before either existed."""
    os.chdir(request.work_dir)
    if request.log_path is None:
        return
    log = os.open(request.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
