"""How a training gets its rows: asked of the tokenizing process, or of a stand-in for it. Imports nothing heavy."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from worker.training.runtime.messages import Tokenized, TrainingMessage, TrainingRequest

Watch = Callable[[], None]
"""Called again and again while something is awaited; may raise."""
Tell = Callable[[TrainingMessage], None]


def ignore(line: TrainingMessage) -> None:
    return


class Tokenizing(Protocol):
    """One request's rows, then the result's tokenizer; TrainingFailed says what was wrong with them."""

    def begin(self, request: TrainingRequest) -> None: ...

    def rows(self, watch: Watch, tell: Tell = ignore) -> Tokenized:
        """`tell` hears how it goes on."""

    def tokenizer(self) -> Path:
        """Folder of the tokenizer's files."""
