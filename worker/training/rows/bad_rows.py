"""Handles rows that cannot be trained on, as the spec's `on_bad_rows` says. Imports no torch; see `tokenize`."""

import json
from collections import Counter
from pathlib import Path
from typing import Final, Literal, Self

from app.domain.events.job_events import RowsSkipped
from app.domain.jobs.state import FailureReason
from worker.training.runtime.errors import TrainingFailed

NAME: Final = "skipped_rows.jsonl"
Role = Literal["training", "validation"]


class BadRow(Exception):
    """Describes a bad row by a stable code and a message."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


class SkippedRows:
    """Records the skipped rows of one dataset in a file, since there may be very many."""

    def __init__(self, path: Path, role: Role, max_share: float):
        self.codes: Counter[str] = Counter()
        self._role, self._max_share = role, max_share
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, line: int, bad: BadRow) -> None:
        self.codes[bad.code] += 1
        entry = {"role": self._role, "line": line, "code": bad.code, "message": bad.message}
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def summarize(self, num_rows: int) -> RowsSkipped | None:
        """Return the event for the skipped rows, or None if there are none. `num_rows` counts all rows of the dataset.
        Raises TrainingFailed if more rows were skipped than `max_share` allows."""
        if not self.codes:
            return None
        num_skipped = self.codes.total()
        event = RowsSkipped(role=self._role, num_skipped=num_skipped, num_rows=num_rows, codes=dict(self.codes))
        if num_skipped / num_rows > self._max_share:
            message = f"{event.message.rstrip('.')}. on_bad_rows allows at most {self._max_share:.2%}."
            raise TrainingFailed(FailureReason.too_many_bad_rows, message)
        return event
