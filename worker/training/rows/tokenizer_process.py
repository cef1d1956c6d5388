"""Controls the tokenizing process from the training process. It imports nothing heavy, so that the process starts
first.

A tokenizer takes seconds to load and hundreds of megabytes. In a separate process, which ends when its work is done, it
adds nothing to the training's peak memory, and it adds time only where the training has nothing else to do.
"""

import os
import queue
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from app.domain.jobs.state import FailureReason
from worker.child_process import ROOT, ChildProcess, start_process
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import Failed, Preload, Ready, Tokenized, TrainingRequest, WorkStarted
from worker.training.runtime.tokenizing import Report, Watch, ignore

COMMAND = (sys.executable, "-P", "-m", "worker.training.rows.tokenizer_main")
WATCH_SECONDS = 0.05
TokenizerMessage = Annotated[Ready | WorkStarted | Tokenized | Failed, Field(discriminator="kind")]
parse_tokenizer_message: TypeAdapter[TokenizerMessage] = TypeAdapter(TokenizerMessage)


class TokenizingProcess(ChildProcess):
    """Runs in the training's process group and starts at once. It reads `worker.training.runtime.messages` too."""

    def __init__(self) -> None:
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        super().__init__(start_process(COMMAND, "start_tokenizing", env=env, own_group=False))
        self._messages: queue.Queue[TokenizerMessage | None] = queue.Queue()
        self.start_reader(self._read, "tokenizing-pipe")

    def is_alive(self) -> bool:
        """Ask the system whether the process runs: `Popen.poll` reports a dead process as alive while the reader waits
        for it."""
        try:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # the reader has reaped it
            return False
        return ended is None

    def preload(self, folder: Path | None) -> Path | None:
        """Load a model's tokenizer beforehand. Returns its folder, or None if none was loaded."""
        self.send(Preload(base_model_path=folder))
        word = self._next(lambda: None)
        if isinstance(word, Ready):
            return word.base_model_path
        raise self._make_exit_error()

    def begin(self, request: TrainingRequest) -> None:
        self._request = request
        self.send(request)

    def rows(self, watch: Watch, report: Report = ignore) -> Tokenized:
        while isinstance(word := self._next(watch), WorkStarted):
            report(word)
        if isinstance(word, Failed):
            raise TrainingFailed(word.reason, word.message)
        if isinstance(word, Tokenized):
            return word
        raise self._make_exit_error()

    def tokenizer(self) -> Path:
        if self.wait() == 0:
            return self._request.tokens_dir / "tokenizer"
        # A long training must not fail because of this, and memory is no longer scarce.
        from worker.training.rows.tokenize import save_tokenizer
        from worker.training.rows.tokenizer import load_tokens

        return save_tokenizer(self._request, load_tokens(self._request.base_model_path))

    def close(self) -> None:
        """Kill the process and reap it."""
        self.kill()
        self.reap()

    def kill(self) -> None:
        """Kill this process alone: it shares the training's process group."""
        self._process.kill()

    def _make_exit_error(self) -> TrainingFailed:
        self.close()
        return TrainingFailed(
            FailureReason.training_process_died,
            f"The tokenizing process exited before it finished (exit code {self._process.returncode}).",
        )

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._messages.put(parse_tokenizer_message.validate_json(line))
        except ValidationError:
            self.kill()
        self.wait()
        self._messages.put(None)

    def _next(self, watch: Watch) -> TokenizerMessage | None:
        """Return the next message, or None when the process has ended."""
        while True:
            try:
                return self._messages.get(timeout=WATCH_SECONDS)
            except queue.Empty:
                watch()
