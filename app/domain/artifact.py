"""Defines artifacts: immutable stored bytes with a kind, a size and a SHA-256."""

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

ADAPTER_ARCHIVE: Final = "adapter.tar"
"""Names the adapter's folder as one file, in a result and in a checkpoint."""


class ArtifactKind(StrEnum):
    adapter = "adapter"
    """Is a file of the trained adapter's folder."""
    model = "model"
    """Is a file of a fully fine-tuned model's folder."""
    adapter_archive = "adapter_archive"
    """Is the adapter's folder as one tar file."""
    row_losses = "row_losses"
    """Is `row_losses.csv`: the training rows with their losses of the last epoch, the highest first."""
    step_metrics = "step_metrics"
    """Is `step_metrics.csv`: losses and accuracies by step."""
    skipped_rows = "skipped_rows"
    """Is `skipped_rows.jsonl`: the rows that were left out, and why."""

    tensorboard = "tensorboard"
    """Is `tensorboard.tfevents`: every metric by step, for TensorBoard. Only jobs that request it have one."""


RESULT_FILES: Final = (ArtifactKind.adapter_archive, ArtifactKind.step_metrics)
"""Lists the kinds that the OpenAI-compatible API lists as result files."""


class StoredFile(BaseModel):
    """Describes bytes that storage holds under `key`. `sha256` is lower-case hex."""

    model_config = ConfigDict(frozen=True)

    path: str
    key: str
    size: int
    sha256: str
