"""Defines how a training gets its rows: from the tokenizing process or from a stand-in. It imports nothing heavy."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from worker.training.runtime.messages import Tokenized, TrainingMessage, TrainingRequest

Watch = Callable[[], None]
"""Is called repeatedly during a wait, and may raise."""
Report = Callable[[TrainingMessage], None]


def ignore(line: TrainingMessage) -> None:
    return


class Tokenizing(Protocol):
    """Provides one request's rows and then the result's tokenizer. Raises TrainingFailed if the rows cannot be used."""

    def begin(self, request: TrainingRequest) -> None: ...

    def rows(self, watch: Watch, report: Report = ignore) -> Tokenized:
        """Return the rows. `report` receives the progress messages."""

    def tokenizer(self) -> Path:
        """Return the folder of the tokenizer's files."""
