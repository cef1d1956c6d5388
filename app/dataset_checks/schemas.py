"""Previews and overlaps on the wire."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from app.db.tables import DatasetCheck
from app.domain.dataset_checks.overlap import OverlapTotals, Pair
from app.domain.dataset_checks.preview import PreviewSpec, PreviewTotals, ShownRow
from app.domain.dataset_checks.state import StudyFailure, StudyState

PREVIEW_EXAMPLE: dict[str, Any] = {"base_model": "gemma-3-270m", "train_on": "assistant", "rows": [1, 17]}
OVERLAP_EXAMPLE: dict[str, Any] = {"validation_dataset_id": "file-0a1b2c3d4e5f60718293a4b5"}


class FailureOut(BaseModel):
    """Why there is no answer."""

    code: StudyFailure
    message: str


class Study(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    dataset_id: str
    state: StudyState
    """`pending` until a worker has done it; then `ready` or `failed`."""
    failure: FailureOut | None
    """Set when it failed."""
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, study: DatasetCheck) -> Self:
        return cls(**cls.fields(study))

    @classmethod
    def fields(cls, study: DatasetCheck) -> dict[str, Any]:
        failed = study.failure_code is not None
        return {
            "id": study.id,
            "dataset_id": study.dataset_id,
            "state": study.state,
            "failure": {"code": study.failure_code, "message": study.failure_message or ""} if failed else None,
            "created_at": study.created_at,
            "finished_at": study.finished_at,
        }


class PreviewSummary(Study):
    """A preview as lists show it."""

    spec: PreviewSpec
    """What was asked for, with every default."""
    totals: PreviewTotals | None
    """Of the whole file; set once it is ready."""

    @classmethod
    def fields(cls, study: DatasetCheck) -> dict[str, Any]:
        return super().fields(study) | {"spec": study.asked, "totals": study.totals}


class PreviewOut(PreviewSummary):
    """What a model would see of a dataset, made by the code that trains."""

    rows: list[ShownRow]
    """Those that were asked for; empty until it is ready."""

    @classmethod
    def fields(cls, study: DatasetCheck) -> dict[str, Any]:
        return super().fields(study) | {"rows": study.shown or []}


class OverlapSummary(Study):
    """An overlap as lists show it."""

    validation_dataset_id: str
    totals: OverlapTotals | None
    """Set once it is ready."""

    @classmethod
    def fields(cls, study: DatasetCheck) -> dict[str, Any]:
        return super().fields(study) | {"totals": study.totals, "validation_dataset_id": study.other_dataset_id}


class OverlapOut(OverlapSummary):
    """Rows of a validation dataset that stand in the dataset too."""

    pairs: list[Pair]
    """The first thousand by the validation row's line; `totals` counts them all. Empty until it is ready."""

    @classmethod
    def fields(cls, study: DatasetCheck) -> dict[str, Any]:
        return super().fields(study) | {"pairs": study.shown or []}
