"""Defines the request and response bodies for projects."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.db.tables import Project
from app.domain.jobs.spec import Label
from app.domain.project import DeletionState
from app.web.api_model import from_row

MAX_LIMIT = 1_000_000
SETTINGS_EXAMPLE: dict[str, Any] = {"max_running_jobs": 2, "allowed_labels": {"pool": ["a", "b"]}}


def _sort_values(values: Sequence[str]) -> list[str]:
    return sorted(set(values))


Limit = Annotated[int, Field(ge=0, le=MAX_LIMIT)] | None
Values = Annotated[list[Label], Field(min_length=1, max_length=100), AfterValidator(_sort_values)]
AllowedLabels = Annotated[dict[Label, Values], Field(max_length=16)]


class ProjectChange(BaseModel):
    """A change to a project; omitted fields keep their values."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": SETTINGS_EXAMPLE}
    )

    max_running_jobs: Limit = None
    """Maximum number of the project's jobs that run at once; null for no limit."""
    allowed_labels: AllowedLabels = {}
    """Labels of the workers that run the project's jobs: one of the values of each key; `{}` allows every worker."""


class ProjectIn(ProjectChange):
    """A project to create."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "research"} | SETTINGS_EXAMPLE})

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """Letters, digits, `.`, `_` and `-`, starting with a letter or digit."""


class ProjectOut(BaseModel):
    """A project, which owns keys, datasets, jobs and adapters."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    name: str
    max_running_jobs: int | None
    """Maximum number of the project's jobs that run at once; null for no limit."""
    allowed_labels: dict[str, list[str]]
    """Labels of the workers that run the project's jobs: one of the values of each key; `{}` allows every worker."""
    being_deleted: bool
    """Whether the project is being deleted and accepts nothing new; see `GET /projects/{id}/deletion`."""
    created_at: datetime

    @classmethod
    def of(cls, project: Project, being_deleted: bool = False) -> Self:
        return from_row(cls, project, being_deleted=being_deleted)


class ProjectDeletionOut(BaseModel):
    """The deletion of a project. It remains available after the project is deleted."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    id: str
    """The project's id."""
    name: str
    state: DeletionState
    """`stopping` until no worker holds any of its work, then `erasing`, then `clearing_workers` until each online
    worker has cleared its disk, then `finished`: nothing of the project is left."""
    num_rows: dict[str, int]
    """Rows deleted so far, by table."""
    num_objects: int
    """Stored objects found after all work had stopped."""
    num_bytes: int
    """Total size of these objects."""
    num_live_streams: int
    """Streams of live metrics deleted from Redis."""
    work_folders: dict[str, int]
    """Work folders that each worker has removed from its disk, by worker id."""
    created_at: datetime
    finished_at: datetime | None
