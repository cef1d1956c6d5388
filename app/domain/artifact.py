"""Artifacts: immutable stored bytes with a kind, a size and a SHA-256."""

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

ADAPTER_ARCHIVE: Final = "adapter.tar"
"""Name of an adapter's folder as one file, beside a result and in a checkpoint."""


class ArtifactKind(StrEnum):
    adapter = "adapter"
    """A file of the trained adapter's folder."""
    model = "model"
    """A file of a fully fine-tuned model's folder."""
    adapter_archive = "adapter_archive"
    """The adapter's folder as one tar file."""
    row_losses = "row_losses"
    """`row_losses.csv`: the training rows with their losses of the last epoch, the highest first."""
    step_metrics = "step_metrics"
    """`step_metrics.csv`: losses and accuracies by step."""
    skipped_rows = "skipped_rows"
    """`skipped_rows.jsonl`: the rows that were left out, and why."""

    tensorboard = "tensorboard"
    """`tensorboard.tfevents`: every metric by step, for TensorBoard; of a job that asks for it."""


RESULT_FILES: Final = (ArtifactKind.adapter_archive, ArtifactKind.step_metrics)
"""What OpenAI's face shows among the files."""


class StoredFile(BaseModel):
    """Bytes that storage holds under `key`; `sha256` is lower-case hex."""

    model_config = ConfigDict(frozen=True)

    path: str
    key: str
    size: int
    sha256: str
