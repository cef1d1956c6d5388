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
    """Is the step of the earlier job's checkpoint that it resumes from."""

    @property
    def message(self) -> str:
        retry = f" as a retry of {self.retry_of}" if self.retry_of else ""
        start = f", from its checkpoint of step {self.resume_step}" if self.resume_step is not None else ""
        return f"The job was accepted and queued{retry}{start}."


class JobClaimed(EventBody):
    type: Literal["job_claimed"] = "job_claimed"
    template: ClassVar[str] = "Worker {worker} took the job up (attempt {attempt})."
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
        "{num_rows:,} rows with {num_tokens:,} tokens ({num_labelled_tokens:,} labelled); "
        "{num_truncated_rows:,} truncated, {num_dropped_rows:,} dropped."
    )
    num_rows: int
    num_validation_rows: int
    num_dropped_rows: int
    num_truncated_rows: int
    num_tokens: int
    num_labelled_tokens: int
    chat_template: str | None
    """Says where the chat template came from. Null when no row needed one."""


class ValidationOverlap(EventBody):
    """Reports validation rows that are in the training dataset too, as `dataset_checks.overlap` counts them."""

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
        lines = ", ".join(f"{pair.validation_line:,} is {pair.line:,}" for pair in self.pairs)
        more = " …" if self.num_normalised > len(self.pairs) else ""
        return (
            f"{self.num_normalised:,} of {self.num_validation_rows:,} validation rows are training rows too, "
            f"{self.num_exact:,} of them to the letter (lines: {lines}{more}); the validation loss shows them too low."
        )


class RowsSkipped(EventBody):
    """Reports rows that cannot be trained on and were left out, as the spec's `on_bad_rows` allows.
    `skipped_rows.jsonl` lists them."""

    type: Literal["rows_skipped"] = "rows_skipped"
    level: ClassVar[Level] = "warn"
    role: Literal["training", "validation"]
    """Says which of the job's datasets the rows belong to."""
    num_skipped: int
    num_rows: int
    """Counts all rows of the dataset."""
    codes: dict[str, int]
    """Counts the skipped rows by error code."""

    @property
    def message(self) -> str:
        why = ", ".join(f"{count:,} {code}" for code, count in sorted(self.codes.items()))
        share = self.num_skipped / self.num_rows
        return f"{self.num_skipped:,} of {self.num_rows:,} {self.role} rows ({share:.2%}) are left out: {why}."


class ModelFetched(EventBody):
    """Reports how much of the base model was fetched from storage into the worker's cache, for a model that takes a
    while."""

    type: Literal["model_fetched"] = "model_fetched"
    num_bytes: int
    total_bytes: int

    @property
    def message(self) -> str:
        return f"Fetching the model: {self.num_bytes / 1e9:.1f} of {self.total_bytes / 1e9:.1f} GB."


class TrainingStarted(EventBody):
    """Reports that the attempt's first training forward comes next. Times are by the database's clock."""

    type: Literal["training_started"] = "training_started"
    template: ClassVar[str] = "Training starts {seconds_since_claimed:.1f} s after the job was taken up."
    attempt: int
    seconds_since_created: float
    seconds_since_claimed: float
    parity_seconds: float
    """Is the part of these seconds that the parity check took."""
    dry_run_seconds: float
    """Is the part of these seconds that the dry run of the largest micro-batch took."""
    used_standby_process: bool
    """Says whether a standby process with the model's tokenizer was used."""


class JobResumed(EventBody):
    """Reports a resume. Readers of a curve rewind to `step`: later values of an earlier attempt are measured again."""

    type: Literal["job_resumed"] = "job_resumed"
    template: ClassVar[str] = "Attempt {attempt} continues after step {step}."
    attempt: int
    step: int


class CheckpointSaved(EventBody):
    type: Literal["checkpoint_saved"] = "checkpoint_saved"
    template: ClassVar[str] = "A checkpoint of step {step} is safe in storage."
    step: int


class WarningIssued(EventBody):
    """Reports something that the user should know and that stops nothing. `code` is stable."""

    type: Literal["warning_issued"] = "warning_issued"
    level: ClassVar[Level] = "warn"
    template: ClassVar[str] = "{detail}"
    code: str
    detail: str


class CancelRequested(EventBody):
    type: Literal["cancel_requested"] = "cancel_requested"
    template: ClassVar[str] = "Cancellation was requested; the training process is being stopped."


class PauseRequested(EventBody):
    type: Literal["pause_requested"] = "pause_requested"
    template: ClassVar[str] = "A pause was requested; the training process writes a checkpoint and stops."


class JobPaused(EventBody):
    type: Literal["job_paused"] = "job_paused"
    template: ClassVar[str] = "The job is paused until it is resumed."


class ResumeRequested(EventBody):
    """Reports that the job is queued again. `job_resumed` follows once an attempt continues it."""

    type: Literal["resume_requested"] = "resume_requested"
    template: ClassVar[str] = "The job was resumed; it is queued again and will go on from its last checkpoint."


class AttemptLost(EventBody):
    type: Literal["attempt_lost"] = "attempt_lost"
    level: ClassVar[Level] = "warn"
    template: ClassVar[str] = "Attempt {attempt} stopped answering; its lease has lapsed."
    attempt: int


class AttemptRecovered(EventBody):
    """Reports that the worker came back before another one claimed the job, and kept its attempt."""

    type: Literal["attempt_recovered"] = "attempt_recovered"
    template: ClassVar[str] = "The worker of attempt {attempt} answers again and goes on."
    attempt: int


class AttemptReleased(EventBody):
    """Reports that the worker released the job voluntarily, for instance because it was asked to stop."""

    type: Literal["attempt_released"] = "attempt_released"
    template: ClassVar[str] = "Attempt {attempt} was given back by its worker."
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
