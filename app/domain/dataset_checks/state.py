"""Defines dataset checks, which light workers run on request: previews and overlaps."""

from enum import StrEnum
from typing import Final

KEPT: Final = 20
"""Is the number of newest checks that are kept of each kind and dataset."""


class DatasetCheckKind(StrEnum):
    preview = "preview"
    """Shows what a model would see of the rows."""
    overlap = "overlap"
    """Finds the rows of a validation dataset that are also in the dataset."""


class DatasetCheckState(StrEnum):
    """Lists the states: pending → ready | failed. A light worker claims a pending check once its datasets are
    inspected. A crash of that worker leaves the check pending, and another worker claims it when the lease has expired.
    A check is removed with its dataset, and when enough newer ones exist."""

    pending = "pending"
    ready = "ready"
    failed = "failed"


class DatasetCheckFailure(StrEnum):
    """Lists why a dataset check failed. The codes are a stable part of the API."""

    dataset_invalid = "dataset_invalid"
    """The dataset's inspection or the model's chat template rejects the dataset."""
    too_many_bad_rows = "too_many_bad_rows"
    """More rows are bad than `on_bad_rows` allows to skip."""
    reasoning_not_rendered = "reasoning_not_rendered"
    """The rows have reasoning that the model's chat template does not render."""
    file_missing = "file_missing"
    """The dataset's file is missing from storage, or was altered there."""
    model_not_found = "model_not_found"
    """The model was removed from the registry."""
    model_unusable = "model_unusable"
    """The model's tokenizer cannot be loaded."""
    out_of_memory = "out_of_memory"
    """The check needed more memory than a preview may use."""
    timed_out = "timed_out"
    """The check needed more time than a preview of a file of its size may take."""
    disk_full = "disk_full"
    """The worker had no disk space left, or the rows need more than a preview may use."""
    internal_error = "internal_error"
    """The process that ran the check died."""
