"""Defines the previewing process's request on stdin and its answer: one file in its working folder.

Its stdin is one line, a `PreviewRequest`. It exits with 0 once `ANSWER` holds a `PreviewAnswer`, and with another code
on an error. Its output goes to the log. This module does not import a tokenizer, so that the parent can import it.
"""

from typing import Final

from pydantic import BaseModel, ConfigDict

from app.domain.dataset_checks.preview import PreviewRow, PreviewSpec, PreviewTotals
from worker.training.runtime.messages import Failed, TrainingRequest

ANSWER: Final = "preview.json"


class Machine(BaseModel):
    """Describes the machine whose device plan decides the micro-batches."""

    model_config = ConfigDict(frozen=True)

    worker: str
    device: str
    device_name: str | None


class PreviewRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: PreviewSpec
    job: TrainingRequest
    """Holds the request that a job with these settings would get."""
    machine: Machine
    memory_bytes: int
    """Limits the memory that the process may address."""
    cpu_seconds: int
    max_file_bytes: int
    """Limits the size of a file that it may write."""


class PreviewAnswer(BaseModel):
    totals: PreviewTotals
    rows: list[PreviewRow]


class PreviewRefused(BaseModel):
    """Reports that there is no preview, for the reason that a job would fail."""

    failed: Failed
