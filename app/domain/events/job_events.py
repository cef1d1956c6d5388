"""Defines the closed union of job events: facts, in the past tense. `type` is a stable code of the API."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.domain.dataset_checks.overlap import Pair
from app.domain.events.base import EventBody, Level
from app.domain.events.training_events import (
    DryRunPassed,
    EarlyStopped,
    Evaluated,
    ModelLoaded,
    OutOfMemoryFallbackEvent,
    ReferenceComputed,
    StepSkipped,
)
from app.domain.jobs.state import FailureReason, JobPhase

__all__ = [
    "DryRunPassed",
    "EarlyStopped",
    "Evaluated",
    "EventBody",
    "Level",
    "ModelLoaded",
    "OutOfMemoryFallbackEvent",
    "ReferenceComputed",
    "StepSkipped",
]  # fmt: skip
"""Re-exports the names that are defined elsewhere."""


class JobCreated(EventBody):
    type: Literal["job_created"] = "job_created"
    retry_of: str | None = None
    resume_step: int | None = None
    """Gives the step of the earlier job's checkpoint from which it resumes."""

    @property
    def message(self) -> str:
        retry = f" as a retry of {self.retry_of}" if self.retry_of else ""
        start = f", resuming from its checkpoint at step {self.resume_step}" if self.resume_step is not None else ""
        return f"The job was created and queued{retry}{start}."


class JobClaimed(EventBody):
    type: Literal["job_claimed"] = "job_claimed"
    template: ClassVar[str] = "Worker {worker} claimed the job (attempt {attempt})."
    attempt: int
    worker: str


class PhaseChanged(EventBody):
    type: Literal["phase_changed"] = "phase_changed"
    template: ClassVar[str] = "The job is {phase}."
    phase: JobPhase


class DatasetPrepared(EventBody):
    """Reports counts of one epoch of the training rows after rendering and truncation."""

    type: Literal["dataset_prepared"] = "dataset_prepared"
    template: ClassVar[str] = (
        "Prepared {num_rows:,} rows with {num_tokens:,} tokens ({num_labelled_tokens:,} labelled); "
        "{num_truncated_rows:,} truncated, {num_dropped_rows:,} dropped."
    )
    num_rows: int
    num_validation_rows: int
    num_dropped_rows: int
    num_truncated_rows: int
    num_tokens: int
    num_labelled_tokens: int
    chat_template: str | None
    """Names the source of the chat template. Null if no row needed one."""


class ValidationOverlap(EventBody):
    """Reports validation rows that are also in the training dataset, as `dataset_checks.overlap` counts them."""

    type: Literal["validation_overlap"] = "validation_overlap"
    level: ClassVar[Level] = "warn"
    num_rows: int
    num_validation_rows: int
    num_exact: int
    num_normalised: int
    pairs: list[Pair]
    """Lists the first ten pairs by the validation row's line."""

    @property
    def message(self) -> str:
        lines = ", ".join(f"{pair.validation_line:,}/{pair.line:,}" for pair in self.pairs)
        more = " …" if self.num_normalised > len(self.pairs) else ""
        return (
            f"{self.num_normalised:,} of {self.num_validation_rows:,} validation rows are also training rows, "
            f"{self.num_exact:,} of them exactly (validation/training lines: {lines}{more}). "
            "They make the validation loss too low."
        )


class RowsSkipped(EventBody):
    """Reports rows that cannot be trained on and were skipped, as the spec's `on_bad_rows` allows.
    `skipped_rows.jsonl` lists them."""

    type: Literal["rows_skipped"] = "rows_skipped"
    level: ClassVar[Level] = "warn"
    role: Literal["training", "validation"]
    """Names the dataset of the job that the rows belong to."""
    num_skipped: int
    num_rows: int
    """Counts all rows of the dataset."""
    codes: dict[str, int]
    """Counts the skipped rows by error code."""

    @property
    def message(self) -> str:
        why = ", ".join(f"{count:,} {code}" for code, count in sorted(self.codes.items()))
        share = self.num_skipped / self.num_rows
        return f"Skipped {self.num_skipped:,} of {self.num_rows:,} {self.role} rows ({share:.2%}): {why}."


class ModelFetched(EventBody):
    """Reports how much of the base model was fetched from storage into the worker's cache, for a model that takes a
    while."""

    type: Literal["model_fetched"] = "model_fetched"
    num_bytes: int
    total_bytes: int

    @property
    def message(self) -> str:
        return f"Fetched {self.num_bytes / 1e9:.1f} of {self.total_bytes / 1e9:.1f} GB of the model."


class TrainingStarted(EventBody):
    """Reports that the attempt's first training forward comes next. Times are by the database's clock."""

    type: Literal["training_started"] = "training_started"
    template: ClassVar[str] = "Training started {seconds_since_claimed:.1f} s after the job was claimed."
    attempt: int
    seconds_since_created: float
    seconds_since_claimed: float
    parity_seconds: float
    """Gives the part of these seconds that the parity check took."""
    dry_run_seconds: float
    """Gives the part of these seconds that the dry run of the largest micro-batch took."""
    used_standby_process: bool
    """Is true if a standby process with the model's tokenizer was used."""


class JobResumed(EventBody):
    """Reports a resume. Readers of a curve rewind to `step`: later values of an earlier attempt are measured again."""

    type: Literal["job_resumed"] = "job_resumed"
    template: ClassVar[str] = "Attempt {attempt} resumed from step {step}."
    attempt: int
    step: int


class CheckpointSaved(EventBody):
    type: Literal["checkpoint_saved"] = "checkpoint_saved"
    template: ClassVar[str] = "Saved a checkpoint at step {step}."
    step: int


class WarningIssued(EventBody):
    """Reports a problem that does not stop the job. `code` is stable."""

    type: Literal["warning_issued"] = "warning_issued"
    level: ClassVar[Level] = "warn"
    template: ClassVar[str] = "{detail}"
    code: str
    detail: str


class CancelRequested(EventBody):
    type: Literal["cancel_requested"] = "cancel_requested"
    template: ClassVar[str] = "Cancellation requested; stopping the training process."


class PauseRequested(EventBody):
    type: Literal["pause_requested"] = "pause_requested"
    template: ClassVar[str] = "Pause requested; saving a checkpoint and stopping the training process."


class JobPaused(EventBody):
    type: Literal["job_paused"] = "job_paused"
    template: ClassVar[str] = "The job is paused. Resume it to continue."


class ResumeRequested(EventBody):
    """Reports that the job is queued again. `job_resumed` follows once an attempt continues it."""

    type: Literal["resume_requested"] = "resume_requested"
    template: ClassVar[str] = "The job was resumed and queued; it will continue from its last checkpoint."


class AttemptLost(EventBody):
    type: Literal["attempt_lost"] = "attempt_lost"
    level: ClassVar[Level] = "warn"
    template: ClassVar[str] = "Attempt {attempt} was lost: its worker stopped responding and the lease expired."
    attempt: int


class AttemptRecovered(EventBody):
    """Reports that the worker responded again before another one claimed the job, and kept its attempt."""

    type: Literal["attempt_recovered"] = "attempt_recovered"
    template: ClassVar[str] = "Attempt {attempt} was recovered: its worker responded again and continues."
    attempt: int


class AttemptReleased(EventBody):
    """Reports that the worker released the job voluntarily, for instance because it was asked to stop."""

    type: Literal["attempt_released"] = "attempt_released"
    template: ClassVar[str] = "The worker released the job (attempt {attempt})."
    attempt: int


class AttemptFailed(EventBody):
    type: Literal["attempt_failed"] = "attempt_failed"
    level: ClassVar[Level] = "warn"
    template: ClassVar[str] = "Attempt {attempt} failed and will be retried: {detail}"
    attempt: int
    reason: FailureReason
    detail: str


class JobSucceeded(EventBody):
    type: Literal["job_succeeded"] = "job_succeeded"
    template: ClassVar[str] = "The job succeeded; {num_artifacts} files are ready."
    num_artifacts: int


class JobFailed(EventBody):
    type: Literal["job_failed"] = "job_failed"
    level: ClassVar[Level] = "error"
    template: ClassVar[str] = "{detail}"
    reason: FailureReason
    detail: str


class JobCancelled(EventBody):
    type: Literal["job_cancelled"] = "job_cancelled"
    template: ClassVar[str] = "The job was cancelled."


JobEvent = Annotated[
    JobCreated
    | JobClaimed
    | PhaseChanged
    | DatasetPrepared
    | ValidationOverlap
    | RowsSkipped
    | ModelFetched
    | ModelLoaded
    | OutOfMemoryFallbackEvent
    | StepSkipped
    | DryRunPassed
    | ReferenceComputed
    | TrainingStarted
    | JobResumed
    | Evaluated
    | EarlyStopped
    | CheckpointSaved
    | WarningIssued
    | CancelRequested
    | PauseRequested
    | JobPaused
    | ResumeRequested
    | AttemptLost
    | AttemptRecovered
    | AttemptReleased
    | AttemptFailed
    | JobSucceeded
    | JobFailed
    | JobCancelled,
    Field(discriminator="type"),
]
