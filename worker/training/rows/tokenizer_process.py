"""The tokenizing process as the training process sees it. Imports nothing heavy, so that it is started first.

A tokenizer takes seconds to load and hundreds of megabytes. In a process of its own, which ends when its work is done,
it costs the training no memory at its peak, and time only where nothing else is to be done.
"""

import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

import worker
from app.domain.jobs.state import FailureReason
from app.failpoints import around
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import (
    Failed,
    Preload,
    Ready,
    Tokenized,
    TrainingMessage,
    TrainingRequest,
    WorkStarted,
)
from worker.training.runtime.tokenizing import Tell, Watch, ignore

WATCH_SECONDS = 0.05
Word = Annotated[Ready | WorkStarted | Tokenized | Failed, Field(discriminator="kind")]
parse_word: TypeAdapter[Word] = TypeAdapter(Word)


class TokenizingProcess:
    """Started at once; it hears `worker.training.runtime.messages` too."""

    def __init__(self) -> None:
        with around("start_tokenizing"):
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "worker.training.rows.tokenizer_main"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": str(Path(worker.__file__).parents[1])},
            )
        self._said: queue.Queue[Word | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="tokenizing-pipe", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        """Asked of the system itself: `Popen.poll` calls a dead process alive as long as the reader waits for it."""
        try:
            ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # the reader has waited for it
            return False
        return ended is None

    def preload(self, folder: Path | None) -> Path | None:
        """Load the model's tokenizer beforehand; the folder, or None if there is none to load."""
        self._tell(Preload(base_model_path=folder))
        word = self._next(lambda: None)
        if isinstance(word, Ready):
            return word.base_model_path
        raise self._death()

    def begin(self, request: TrainingRequest) -> None:
        self._request = request
        self._tell(request)

    def rows(self, watch: Watch, tell: Tell = ignore) -> Tokenized:
        while isinstance(word := self._next(watch), WorkStarted):
            tell(word)
        if isinstance(word, Failed):
            raise TrainingFailed(word.reason, word.message)
        if isinstance(word, Tokenized):
            return word
        raise self._death()

    def tokenizer(self) -> Path:
        if self._process.wait() == 0:
            return self._request.tokens_dir / "tokenizer"
        # A long training shall not end for that; and memory is no matter any more.
        from worker.training.rows.tokenize import save_tokenizer
        from worker.training.rows.tokenizer import load_tokens

        return save_tokenizer(self._request, load_tokens(self._request.base_model_path))

    def close(self) -> None:
        """Make sure that it is gone."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # words that it never read
                pipe.close()

    def _death(self) -> TrainingFailed:
        self.close()
        return TrainingFailed(
            FailureReason.training_process_died,
            f"The tokenizing process ended before its work was done (exit code {self._process.returncode}).",
        )

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._said.put(parse_word.validate_json(line))
        except ValidationError:
            self._process.kill()
        self._process.wait()
        self._said.put(None)

    def _next(self, watch: Watch) -> Word | None:
        """What it says next; None is its end."""
        while True:
            try:
                return self._said.get(timeout=WATCH_SECONDS)
            except queue.Empty:
                watch()

    def _tell(self, line: TrainingMessage) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.model_dump_json().encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # It is gone; its end is told by the pipe that is read.
