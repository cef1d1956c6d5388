"""Defines the response bodies for previews and overlap checks."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from app.db.tables import DatasetCheck
from app.domain.dataset_checks.overlap import OverlapTotals, Pair
from app.domain.dataset_checks.preview import PreviewRow, PreviewSpec, PreviewTotals
from app.domain.dataset_checks.state import DatasetCheckFailure, DatasetCheckState
from app.web.row_schema import from_row

PREVIEW_EXAMPLE: dict[str, Any] = {"base_model": "gemma-3-270m", "train_on": "assistant", "rows": [1, 17]}
OVERLAP_EXAMPLE: dict[str, Any] = {"validation_dataset_id": "file-0a1b2c3d4e5f60718293a4b5"}


class DatasetCheckFailureOut(BaseModel):
    """Explains why there is no result."""

    code: DatasetCheckFailure
    message: str


class DatasetCheckOut(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    dataset_id: str
    state: DatasetCheckState
    """Is `pending` until a worker has run it; then `ready` or `failed`."""
    failure: DatasetCheckFailureOut | None
    """Is set if it failed."""
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
    """Describes a preview as lists show it."""

    spec: PreviewSpec
    """Holds the spec of the request, with every default filled in."""
    totals: PreviewTotals | None
    """Describes the whole file; set once it is ready."""

    @classmethod
    def _derived(cls, check: DatasetCheck) -> dict[str, Any]:
        return super()._derived(check) | {"spec": check.asked}


class PreviewOut(PreviewSummary):
    """Shows what a model would see of a dataset, as computed by the training code."""

    rows: list[PreviewRow]
    """Lists the requested rows; empty until it is ready."""

    @classmethod
    def _derived(cls, check: DatasetCheck) -> dict[str, Any]:
        return super()._derived(check) | {"rows": check.shown or []}


class OverlapSummary(DatasetCheckOut):
    """Describes an overlap check as lists show it."""

    validation_dataset_id: str
    totals: OverlapTotals | None
    """Is set once it is ready."""

    @classmethod
    def _derived(cls, check: DatasetCheck) -> dict[str, Any]:
        return super()._derived(check) | {"validation_dataset_id": check.other_dataset_id}


class OverlapOut(OverlapSummary):
    """Lists the rows of a validation dataset that are also in the dataset."""

    pairs: list[Pair]
    """Lists the first thousand pairs, ordered by the validation row's line; `totals` counts all. Empty until it is
    ready."""

    @classmethod
    def _derived(cls, check: DatasetCheck) -> dict[str, Any]:
        return super()._derived(check) | {"pairs": check.shown or []}
