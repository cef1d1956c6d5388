"""What the training process hears and says: JSON lines from its parent, JSON lines to it."""

import os
import threading
from typing import Literal

from pydantic import TypeAdapter

from worker.training.protocol import Failed, Finished, Line, Request, Stop, Stopped

PARENT_GONE = 3
"""Exit status when the parent went away first."""


class StopAsked(Exception):
    """The parent wants the process to end; raised where nothing is half done."""


class Channel:
    """Owns the process's stdin and stdout. Whatever else prints to stdout lands in stderr, the job's log."""

    def __init__(self) -> None:
        self._said = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        # Unbuffered: a buffered reader's lock, held by the listening thread, aborts the interpreter's shutdown.
        self._heard = os.fdopen(os.dup(0), "rb", buffering=0)
        self._saying = threading.Lock()
        self._ended = False
        self.stop_wish: Literal["drain", "cancel"] | None = None

    def hear_request(self) -> Request | None:
        """None when the parent closed the pipe without one. From here on a thread keeps listening."""
        line = self._heard.readline()
        if not line:
            return None
        request = Request.model_validate_json(line)
        threading.Thread(target=self._listen, daemon=True).start()
        return request

    def say(self, line: Line) -> None:
        """From any thread."""
        with self._saying:
            self._ended = isinstance(line, Finished | Failed | Stopped)
            self._said.write(line.model_dump_json() + "\n")
            self._said.flush()

    def raise_if_stopped(self) -> None:
        if self.stop_wish:
            raise StopAsked

    def _listen(self) -> None:
        stop = TypeAdapter(Stop)
        for line in self._heard:
            self.stop_wish = stop.validate_json(line).why
        if not self._ended:
            os._exit(PARENT_GONE)  # at once and from any step: nobody is left to hear the end
