"""Dataset checks: what a light worker finds out about a dataset on request. A preview is one, an overlap another."""

from enum import StrEnum
from typing import Final

KEPT: Final = 20
"""Of each kind and dataset, the newest."""


class DatasetCheckKind(StrEnum):
    preview = "preview"
    """What a model would see of the rows."""
    overlap = "overlap"
    """Which rows of a validation dataset the dataset holds too."""


class DatasetCheckState(StrEnum):
    """pending → ready | failed. A light worker takes a pending one up once its datasets are inspected; a crash of that
    leaves it pending, and another takes it up when the lease has lapsed. It ends without a trace when its dataset is
    deleted, and when as many newer ones are there as are kept."""

    pending = "pending"
    ready = "ready"
    failed = "failed"


class DatasetCheckFailure(StrEnum):
    """Why a dataset check failed: stable codes of the API."""

    dataset_invalid = "dataset_invalid"
    """Its inspection, or the model's chat template, refuses the dataset."""
    too_many_bad_rows = "too_many_bad_rows"
    """More of its rows are bad than `on_bad_rows` lets be skipped."""
    reasoning_not_rendered = "reasoning_not_rendered"
    """Rows have reasoning, and the model's chat template does not render it."""
    file_missing = "file_missing"
    """Storage has lost the dataset, or it was altered there."""
    model_not_found = "model_not_found"
    """The model was taken out of the registry meanwhile."""
    model_unusable = "model_unusable"
    """The model's tokenizer cannot be loaded."""
    out_of_memory = "out_of_memory"
    """More memory was needed than a preview may use."""
    timed_out = "timed_out"
    """More time was needed than a preview of a file of its size may take."""
    disk_full = "disk_full"
    """There was no disk space left on the worker, or the rows take more of it than a preview may."""
    internal_error = "internal_error"
    """A fault of the server's: the process that did it died."""
