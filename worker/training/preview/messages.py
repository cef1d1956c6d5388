"""What the previewing process is told, and what it leaves: one file in the folder that it works in.

Its stdin is one line, a `PreviewRequest`. It ends with 0 once `ANSWER` holds a `PreviewAnswer`, and with another code
where it could not. What it prints is for the log. This module knows no tokenizer, so that the parent can import it.
"""

from typing import Final

from pydantic import BaseModel, ConfigDict

from app.domain.dataset_checks.preview import PreviewRow, PreviewSpec, PreviewTotals
from worker.training.runtime.messages import Failed, TrainingRequest

ANSWER: Final = "preview.json"


class Machine(BaseModel):
    """Whose plan the micro-batches are counted by."""

    model_config = ConfigDict(frozen=True)

    worker: str
    device: str
    device_name: str | None


class PreviewRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: PreviewSpec
    job: TrainingRequest
    """What a job by these settings would be told."""
    machine: Machine
    memory_bytes: int
    """Most memory that the process may address."""
    cpu_seconds: int
    max_file_bytes: int
    """Largest file that it may write."""


class PreviewAnswer(BaseModel):
    totals: PreviewTotals
    rows: list[PreviewRow]


class PreviewRefused(BaseModel):
    """There is no preview, for the reason that a job would fail."""

    failed: Failed
