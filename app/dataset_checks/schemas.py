"""Defines the response bodies for previews and overlap checks."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from app.db.tables import DatasetCheck
from app.domain.dataset_checks.overlap import OverlapTotals, Pair
from app.domain.dataset_checks.preview import PreviewRow, PreviewSpec, PreviewTotals
from app.domain.dataset_checks.state import DatasetCheckFailure, DatasetCheckState
from app.web.api_model import from_row

PREVIEW_EXAMPLE: dict[str, Any] = {"base_model": "gemma-3-270m", "train_on": "assistant", "rows": [1, 17]}
OVERLAP_EXAMPLE: dict[str, Any] = {"validation_dataset_id": "file-0a1b2c3d4e5f60718293a4b5"}


class DatasetCheckFailureOut(BaseModel):
    """Why the check has no result."""

    code: DatasetCheckFailure
    message: str


class DatasetCheckOut(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    dataset_id: str
    state: DatasetCheckState
    """`pending` until a worker has run the check, then `ready` or `failed`."""
    failure: DatasetCheckFailureOut | None
    """Set if the check failed."""
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, check: DatasetCheck) -> Self:
        return from_row(cls, check, **cls._derived(check))

    @classmethod
    def _derived(cls, check: DatasetCheck) -> dict[str, Any]:
        """Return the fields that the row lacks under their names."""
        failed = check.failure_code is not None
        return {"failure": {"code": check.failure_code, "message": check.failure_message or ""} if failed else None}


class PreviewSummary(DatasetCheckOut):
    """A preview, as lists return it."""

    spec: PreviewSpec
    """The request's spec, with every default filled in."""
    totals: PreviewTotals | None
    """Totals of the whole file; null until the preview is ready."""

    @classmethod
    def _derived(cls, check: DatasetCheck) -> dict[str, Any]:
        return super()._derived(check) | {"spec": check.asked}


class PreviewOut(PreviewSummary):
    """What a model would see of a dataset, as computed by the training code."""

    rows: list[PreviewRow]
    """The requested rows; empty until the preview is ready."""

    @classmethod
    def _derived(cls, check: DatasetCheck) -> dict[str, Any]:
        return super()._derived(check) | {"rows": check.shown or []}


class OverlapSummary(DatasetCheckOut):
    """An overlap check, as lists return it."""

    validation_dataset_id: str
    totals: OverlapTotals | None
    """Null until the check is ready."""

    @classmethod
    def _derived(cls, check: DatasetCheck) -> dict[str, Any]:
        return super()._derived(check) | {"validation_dataset_id": check.other_dataset_id}


class OverlapOut(OverlapSummary):
    """The rows of a validation dataset that are also in the dataset."""

    pairs: list[Pair]
    """The first thousand pairs, ordered by the validation row's line; `totals` counts all. Empty until the check is
    ready."""

    @classmethod
    def _derived(cls, check: DatasetCheck) -> dict[str, Any]:
        return super()._derived(check) | {"pairs": check.shown or []}
