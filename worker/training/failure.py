"""Why a training ends without a result, in the words its user reads."""

from app.domain.job import FailureReason


class TrainingFailed(Exception):
    """Ends the training as a failure of the job: `message` says what was wrong and what to do."""

    def __init__(self, reason: FailureReason, message: str):
        super().__init__(message)
        self.reason = reason
        self.message = message
