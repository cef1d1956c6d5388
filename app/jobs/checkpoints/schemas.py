"""Defines the response bodies for checkpoints."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from app.db.tables import Checkpoint, Job
from app.domain.artifact import ADAPTER_ARCHIVE
from app.domain.jobs.model_names import checkpoint_name
from app.web.api_model import from_row


class CheckpointOut(BaseModel):
    """The stored state of a job at a step, from which the job can resume."""

    model_config = ConfigDict(
        use_attribute_docstrings=True,
        json_schema_extra={
            "example": {
                "id": "ftckpt_7a6b5c4d3e2f10293847566a",
                "job_id": "ftjob-9c1f7b0e2d3a4c5b6a798801",
                "attempt": 1,
                "step": 88,
                "name": "ft:gemma-3-270m:support:6a798801:ckpt-step-88",
                "metrics": {"loss": 0.4142, "learning_rate": 0.0002},
                "size": 60_893_792,
                "url": "/jobs/ftjob-9c1f7b0e2d3a4c5b6a798801/checkpoints/ftckpt_7a6b5c4d3e2f10293847566a/archive",
                "machine_fingerprint": "5d1c0f2e7b9a4860",
                "created_at": "2026-01-05T10:15:02.182818Z",
            }
        },
    )

    id: str
    job_id: str
    attempt: int
    """Number of the attempt that saved it."""
    step: int
    name: str
    """Name for `init_from`, as an alternative to the id."""
    metrics: dict[str, float]
    """The metrics measured at the checkpoint's step."""
    size: int
    """Size in bytes: weights, optimizer state, and the best weights so far."""
    url: str | None
    """Path of its adapter as one tar; null if it has none, as for full fine-tuning."""
    machine_fingerprint: str
    """Fingerprint of the workers on which it resumes exactly (`GET /workers`)."""
    created_at: datetime

    @classmethod
    def of(cls, checkpoint: Checkpoint, job: Job, metrics: dict[str, float]) -> "CheckpointOut":
        has_adapter = any(file["path"] == ADAPTER_ARCHIVE for file in checkpoint.files)
        return from_row(
            cls,
            checkpoint,
            name=checkpoint_name(job, checkpoint.step),
            metrics=metrics,
            size=sum(file["size"] for file in checkpoint.files),
            url=f"/jobs/{job.id}/checkpoints/{checkpoint.id}/archive" if has_adapter else None,
        )


class CheckpointList(BaseModel):
    """Checkpoints, the highest step first."""

    items: list[CheckpointOut]
