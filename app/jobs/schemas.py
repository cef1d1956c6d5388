"""Defines the request and response bodies for jobs."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.db.tables import Job
from app.domain.jobs.resuming import InexactResume
from app.domain.jobs.spec import JobSpec
from app.domain.jobs.state import HELD, FailureReason, JobPhase, JobState
from app.jobs.repository import NO_DETAILS, JobDetails
from app.jobs.wait_reason import Waiting
from app.web.api_model import ApiModel, from_row

EXAMPLE_SPEC = {
    "base_model": "gemma-3-270m",
    "dataset_id": "file-5f0c1d2e3a4b5c6d7e8f9a0b",
    "method": "qlora",
    "adapter": {"rank": 16},
    "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.001},
    "suffix": "support",
    "metadata": {"team": "support"},
}


class Failure(ApiModel):
    reason: FailureReason
    """A stable code."""
    message: str


class Resolved(ApiModel):
    """The decisions for one attempt, by the spec's field names."""

    attempt: int
    resources: dict[str, Any] = Field(default={})
    training: dict[str, Any] = Field(default={})
    adapter: dict[str, Any] | None = None
    """Null if there is nothing to decide, as for the method `full`."""
    quantization: dict[str, Any] | None = None
    engine: dict[str, Any] = Field(default={})
    """Decisions that have no field in the spec: `compute_dtype`, `micro_batch_tokens`, `fast_paths`."""


class CreatedBy(ApiModel):
    """The API key that created a job, also on behalf of a browser's session."""

    key_id: str
    key_name: str


class JobOut(ApiModel):
    """A fine-tuning job."""

    id: str
    name: str | None
    state: JobState
    phase: JobPhase | None
    """What a running job is doing."""
    waiting_for: str | None = None
    """Why a queued job waits, such as "3rd in queue" or "no worker online with 24 GB"; only for a single job, not in
    lists."""
    queue_position: int | None = None
    """Position of a queued job among those of all projects, from 1; only for a single job, not in lists."""
    attempt: int
    progress: float
    """Share of the steps that are done, 0 to 1."""
    step: int
    total_steps: int | None
    last_metrics: dict[str, float]
    """The latest value of each metric."""
    estimated_finish_at: datetime | None
    base_model: str
    method: str
    spec: JobSpec
    """The spec as it was sent, with every default filled in. `auto` stays `auto`: the spec can be sent again to create
    the same job on any machine."""
    resolved: list[Resolved]
    """The values chosen for `auto` and other decisions of each attempt, oldest first; empty until the first attempt
    starts to train."""
    failure: Failure | None
    adapter_id: str | None
    metadata: dict[str, str]
    exact: bool
    """Whether the training so far equals an uninterrupted one bit for bit."""
    inexact_resumes: list[InexactResume]
    """The checkpoints from which the job did not resume exactly, for example on another kind of machine, with the
    differences."""
    resume_from: str | None
    """Id of the earlier job's checkpoint from which this one continues."""
    retry_of: str | None
    """Id of the job whose spec this one repeats; null after that job is deleted."""
    created_by: CreatedBy | None
    """The API key that created the job; null after the key is deleted."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job, details: JobDetails = NO_DETAILS, waiting_for: Waiting | None = None) -> "JobOut":
        return from_row(
            cls,
            job,
            phase=JobPhase(job.phase) if job.phase and job.state in HELD else None,
            waiting_for=waiting_for.reason if waiting_for else None,
            queue_position=waiting_for.position if waiting_for else None,
            progress=job.step / job.total_steps if job.total_steps else 0.0,
            last_metrics=job.last_metrics or {},
            estimated_finish_at=job.estimated_finish_at if job.state == JobState.running else None,
            resolved=details.resolved,
            failure=Failure(reason=FailureReason(job.failure_reason), message=job.failure_message or "")
            if job.failure_reason
            else None,
            adapter_id=details.adapter_id,
            metadata=job.metadata_,
            created_by=CreatedBy(key_id=job.created_by_key_id, key_name=job.created_by_name or "")
            if job.created_by_key_id
            else None,
            exact=not job.inexact_resumes,
        )


class RetryJob(BaseModel):
    """Options of a job's retry."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"example": {"from": "last_checkpoint", "changes": {"training": {"max_steps": 80}}}},
    )

    changes: dict[str, Any] = {}
    """Fields of the JobSpec to change, at any depth; null resets a field to its default."""
    from_: Literal["start", "last_checkpoint"] = Field(default="start", alias="from")
    """Where to start: at step 0, or at the old job's last checkpoint."""


class ValidatedSpec(ApiModel):
    """The answer of `POST /jobs?validate_only=true` to a valid spec."""

    valid: Literal[True] = True
    spec: JobSpec
    """The spec as it was sent, with every default filled in."""
    waiting_for: str
    """What the job would wait for now, like a job's `waiting_for`."""
