"""Describes why a training ends without a result, in texts for its user."""

from collections.abc import Iterable

from app.domain.jobs.state import FailureReason
from app.files import is_full
from worker.training.runtime.messages import Failed

MAX_NAMED = 20


class TrainingFailed(Exception):
    """Ends the training as a failure of the job. `message` says what was wrong and what to do."""

    def __init__(self, reason: FailureReason, message: str):
        super().__init__(message)
        self.reason = reason
        self.message = message


def not_finite(what: str, step: int, rows: Iterable[int]) -> TrainingFailed:
    """Create the error for a value that is not finite. `rows` are line numbers in the dataset."""
    return TrainingFailed(
        FailureReason.non_finite_loss,
        f"The {what} at step {step} is not finite ({name_rows(rows)}). Lower learning_rate or check these rows.",
    )


def internal_failure(error: Exception) -> Failed:
    """Describe an error that is not the user's: a full disk, or a fault in this program."""
    reason = FailureReason.disk_full if is_full(error) else FailureReason.internal_error
    return Failed(reason=reason, message=f"{type(error).__name__}: {error}")


def name_rows(rows: Iterable[int]) -> str:
    """Name rows by their line numbers in the dataset, at most the first `MAX_NAMED`."""
    lines = sorted(rows)
    return f"dataset rows {', '.join(map(str, lines[:MAX_NAMED]))}" + (" …" if len(lines) > MAX_NAMED else "")
