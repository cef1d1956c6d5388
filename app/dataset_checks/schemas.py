"""Previews and overlaps on the wire."""

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
    """Why there is no answer."""

    code: DatasetCheckFailure
    message: str


class DatasetCheckOut(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    dataset_id: str
    state: DatasetCheckState
    """`pending` until a worker has done it; then `ready` or `failed`."""
    failure: DatasetCheckFailureOut | None
    """Set when it failed."""
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, check: DatasetCheck) -> Self:
        return from_row(cls, check, **cls._derived(check))

    @classmethod
    def _derived(cls, check: DatasetCheck) -> dict[str, Any]:
        """The fields that the row has not by their names."""
        failed = check.failure_code is not None
        return {"failure": {"code": check.failure_code, "message": check.failure_message or ""} if failed else None}


class PreviewSummary(DatasetCheckOut):
    """A preview as lists show it."""

    spec: PreviewSpec
    """What was asked for, with every default."""
    totals: PreviewTotals | None
    """Of the whole file; set once it is ready."""

    @classmethod
    def _derived(cls, check: DatasetCheck) -> dict[str, Any]:
        return super()._derived(check) | {"spec": check.asked}


class PreviewOut(PreviewSummary):
    """What a model would see of a dataset, made by the code that trains."""

    rows: list[PreviewRow]
    """Those that were asked for; empty until it is ready."""

    @classmethod
    def _derived(cls, check: DatasetCheck) -> dict[str, Any]:
        return super()._derived(check) | {"rows": check.shown or []}


class OverlapSummary(DatasetCheckOut):
    """An overlap as lists show it."""

    validation_dataset_id: str
    totals: OverlapTotals | None
    """Set once it is ready."""

    @classmethod
    def _derived(cls, check: DatasetCheck) -> dict[str, Any]:
        return super()._derived(check) | {"validation_dataset_id": check.other_dataset_id}


class OverlapOut(OverlapSummary):
    """Rows of a validation dataset that stand in the dataset too."""

    pairs: list[Pair]
    """The first thousand by the validation row's line; `totals` counts them all. Empty until it is ready."""

    @classmethod
    def _derived(cls, check: DatasetCheck) -> dict[str, Any]:
        return super()._derived(check) | {"pairs": check.shown or []}
