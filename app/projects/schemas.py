"""Defines the request and response bodies for projects."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.db.tables import Project
from app.domain.jobs.spec import Label
from app.domain.project import DeletionState
from app.web.row_schema import from_row

MAX_LIMIT = 1_000_000
SETTINGS_EXAMPLE: dict[str, Any] = {"max_running_jobs": 2, "allowed_labels": {"pool": ["a", "b"]}}


def _in_order(values: Sequence[str]) -> list[str]:
    return sorted(set(values))


Limit = Annotated[int, Field(ge=0, le=MAX_LIMIT)] | None
Values = Annotated[list[Label], Field(min_length=1, max_length=100), AfterValidator(_in_order)]
AllowedLabels = Annotated[dict[Label, Values], Field(max_length=16)]


class ProjectChange(BaseModel):
    """Describes a change to a project; omitted fields stay as they are."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": SETTINGS_EXAMPLE}
    )

    max_running_jobs: Limit = None
    """Limits how many of its jobs may run at once; null for any number."""
    allowed_labels: AllowedLabels = {}
    """Restricts its jobs to workers that have one of the values of each key; `{}` allows every worker."""


class ProjectIn(ProjectChange):
    """Describes a project to create."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "research"} | SETTINGS_EXAMPLE})

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """Consists of letters, digits, `.`, `_` and `-`, and starts with a letter or a digit."""


class ProjectOut(BaseModel):
    """Describes a project, to which keys, datasets, jobs and adapters belong."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    name: str
    max_running_jobs: int | None
    """Limits how many of its jobs may run at once; null for any number."""
    allowed_labels: dict[str, list[str]]
    """Restricts its jobs to workers that have one of the values of each key; `{}` allows every worker."""
    being_deleted: bool
    """Is true while it is being deleted: it accepts nothing new; `GET /projects/{id}/deletion` shows the progress."""
    created_at: datetime

    @classmethod
    def of(cls, project: Project, being_deleted: bool = False) -> Self:
        return from_row(cls, project, being_deleted=being_deleted)


class ProjectDeletionOut(BaseModel):
    """Describes the deletion of a project; it remains available after the project is deleted."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    id: str
    """Is the project's id."""
    name: str
    state: DeletionState
    """Is `stopping` until no worker holds any of its work, then `erasing`, then `clearing_workers` until each online
    worker has cleared its disk, and finally `finished`: nothing of the project is left."""
    num_rows: dict[str, int]
    """Counts the rows deleted so far, by table."""
    num_objects: int
    """Counts the stored objects found after all work had stopped."""
    num_bytes: int
    """Gives their total size."""
    num_live_streams: int
    """Counts the streams of live metrics deleted from Redis."""
    work_folders: dict[str, int]
    """Counts the folders of attempts that each worker, by id, has removed from its disk."""
    created_at: datetime
    finished_at: datetime | None
