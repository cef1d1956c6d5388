"""Defines events and checkpoints of fine-tuning jobs in OpenAI's format."""

import re
from typing import Any, Final, Literal

from app.db.tables import Checkpoint, Job, JobEvent
from app.domain.jobs.model_names import checkpoint_name
from app.domain.metric import MetricPoint
from app.jobs.events.history import EventPlace, PointPlace
from app.openai.base_schema import unix
from app.web.api_model import ApiModel

EVENT_ID: Final = re.compile(r"ftevent-([0-9a-f]{24})-(\d{1,18})(?:-(\d{1,18}))?")
METRICS: Final = {
    "train_loss": "loss",
    "train_mean_token_accuracy": "token_accuracy",
    "valid_loss": "validation_loss",
    "valid_mean_token_accuracy": "validation_token_accuracy",
    "full_valid_loss": "validation_loss",
    "full_valid_mean_token_accuracy": "validation_token_accuracy",
}
"""Maps OpenAI's names of metrics to the native ones. An evaluation always uses all validation rows."""


class FineTuningJobEvent(ApiModel):
    """An event of a job (`message`), or the metrics at a step (`metrics`)."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]

    @classmethod
    def of(cls, job: Job, found: JobEvent | MetricPoint) -> "FineTuningJobEvent":
        own = job.id.removeprefix("ftjob-")
        if isinstance(found, MetricPoint):
            values = found.values
            return cls(
                id=f"ftevent-{own}-{found.attempt}-{found.number}",
                created_at=unix(found.measured_at),
                level="info",
                message=_format_metrics(found, job.total_steps),
                type="metrics",
                data={"step": found.step, "total_steps": job.total_steps} | metrics_of(values) | values,
            )
        return cls(
            id=f"ftevent-{own}-{found.number}",
            created_at=unix(found.created_at),
            level=found.level,
            message=found.message,
            type="message",
            data=found.data | {"event": found.type},
        )


class FineTuningJobEventList(ApiModel):
    """A page of events, newest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningJobEvent]
    has_more: bool


class CheckpointMetrics(ApiModel):
    step: int
    train_loss: float | None = None
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None


class FineTuningJobCheckpoint(ApiModel):
    """A stored checkpoint; jobs can name it as `fine_tuned_model_checkpoint`."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: CheckpointMetrics

    @classmethod
    def of(cls, job: Job, checkpoint: Checkpoint, values: dict[str, float]) -> "FineTuningJobCheckpoint":
        return cls(
            id=checkpoint.id,
            created_at=unix(checkpoint.created_at),
            fine_tuned_model_checkpoint=checkpoint_name(job, checkpoint.step),
            fine_tuning_job_id=job.id,
            step_number=checkpoint.step,
            metrics=CheckpointMetrics(step=checkpoint.step, **metrics_of(values)),
        )


class FineTuningJobCheckpointList(ApiModel):
    """A page of checkpoints, newest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningJobCheckpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool


def metrics_of(values: dict[str, float]) -> dict[str, float]:
    return {theirs: values[ours] for theirs, ours in METRICS.items() if ours in values}


def place_of(job_id: str, event_id: str) -> EventPlace | PointPlace | None:
    """Return the position of an event of the job; None if the id is not one of its events."""
    match = EVENT_ID.fullmatch(event_id)
    if match is None or f"ftjob-{match[1]}" != job_id:
        return None
    return PointPlace(int(match[2]), int(match[3])) if match[3] else EventPlace(int(match[2]))


def _format_metrics(point: MetricPoint, total_steps: int | None) -> str:
    words = [
        f"{name}={point.values[ours]:.4f}"
        for name, ours in (("training loss", "loss"), ("validation loss", "validation_loss"))
        if ours in point.values
    ]
    step = f"{point.step}/{total_steps}" if total_steps else f"{point.step}"
    return f"Step {step}: {', '.join(words) or 'measured'}"
