"""Jobs on the wire."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.db.tables import Job
from app.domain.jobs.resuming import InexactResume
from app.domain.jobs.spec import JobSpec
from app.domain.jobs.state import HELD, FailureReason, JobPhase, JobState
from app.jobs.repository import NO_DETAILS, JobDetails
from app.jobs.wait_reason import Waiting
from app.web.row_schema import from_row

EXAMPLE_SPEC = {
    "base_model": "gemma-3-270m",
    "dataset_id": "file-5f0c1d2e3a4b5c6d7e8f9a0b",
    "method": "qlora",
    "adapter": {"rank": 16},
    "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.001},
    "suffix": "support",
    "metadata": {"team": "support"},
}


class ApiModel(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Failure(ApiModel):
    reason: FailureReason
    """Stable code."""
    message: str


class Resolved(ApiModel):
    """What was decided for one attempt, by the spec's field names."""

    attempt: int
    resources: dict[str, Any] = {}
    training: dict[str, Any] = {}
    adapter: dict[str, Any] | None = None
    """Null where nothing of it is decided, as for the method `full`."""
    quantization: dict[str, Any] | None = None
    engine: dict[str, Any] = {}
    """What the spec has no field for: `compute_dtype`, `micro_batch_tokens`, `fast_paths`."""


class JobOut(ApiModel):
    """A fine-tuning job."""

    id: str
    name: str | None
    state: JobState
    phase: JobPhase | None
    """What a running job is doing."""
    waiting_for: str | None = None
    """Why a queued job waits, as "3rd in queue" or "no worker online with 24 GB"; for a single job, not in lists."""
    queue_position: int | None = None
    """Place of a queued job among those of all projects, from 1; told for a single job, not in lists."""
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
    """The spec as it was sent, with every default filled in. What is `auto` stays `auto`: sent again, it makes the same
    job on any machine."""
    resolved: list[Resolved]
    """What `auto` came to and what else was decided, for each attempt, oldest first; empty before the first has begun
    to train."""
    failure: Failure | None
    adapter_id: str | None
    metadata: dict[str, str]
    exact: bool
    """Whether the training is, bit for bit, an uninterrupted one, as far as it has come."""
    inexact_resumes: list[InexactResume]
    """Checkpoints from which it went on otherwise, on another kind of machine say, with what differed."""
    resume_from: str | None
    """Checkpoint of an earlier job that this one goes on from."""
    retry_of: str | None
    """The job whose spec this one was made from; null once that is deleted."""
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
            exact=not job.inexact_resumes,
        )


class RetryJob(BaseModel):
    """How to repeat a job."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"example": {"from": "last_checkpoint", "changes": {"training": {"max_steps": 80}}}},
    )

    changes: dict[str, Any] = {}
    """Fields of the JobSpec to change, at any depth; null takes one back to its default."""
    from_: Literal["start", "last_checkpoint"] = Field(default="start", alias="from")
    """`last_checkpoint` goes on from the state that the old job has saved last."""


class ValidatedSpec(ApiModel):
    """What `POST /jobs?validate_only=true` answers to a good spec."""

    valid: Literal[True] = True
    spec: JobSpec
    """As it was sent, with every default filled in."""
    waiting_for: str
    """What the job would wait for now, as `waiting_for` of a job."""
