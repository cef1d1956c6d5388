"""Why a training ends without a result, in the words its user reads."""

from collections.abc import Iterable

from app.domain.job import FailureReason


class TrainingFailed(Exception):
    """Ends the training as a failure of the job: `message` says what was wrong and what to do."""

    def __init__(self, reason: FailureReason, message: str):
        super().__init__(message)
        self.reason = reason
        self.message = message


def not_finite(what: str, step: int, rows: Iterable[int]) -> TrainingFailed:
    """`rows` are lines of the dataset."""
    lines = sorted(rows)
    shown = ", ".join(map(str, lines[:20])) + (" …" if len(lines) > 20 else "")
    return TrainingFailed(
        FailureReason.nan_loss,
        f"The {what} of step {step} is not a finite number (dataset rows {shown}); lower learning_rate or look at "
        "these rows.",
    )
