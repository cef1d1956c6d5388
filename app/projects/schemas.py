"""Projects on the wire."""

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
    """What is to be different; the rest stays."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": SETTINGS_EXAMPLE}
    )

    max_running_jobs: Limit = None
    """How many of its jobs may run at once; null for any number."""
    allowed_labels: AllowedLabels = {}
    """Its jobs run only on workers that have one of the values of each key; `{}` for every worker."""


class ProjectIn(ProjectChange):
    """A project to be created."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "research"} | SETTINGS_EXAMPLE})

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """Letters, digits, `.`, `_` and `-`, beginning with a letter or a digit."""


class ProjectOut(BaseModel):
    """What keys, datasets, jobs and adapters belong to."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    name: str
    max_running_jobs: int | None
    """How many of its jobs may run at once; null for any number."""
    allowed_labels: dict[str, list[str]]
    """Its jobs run only on workers that have one of the values of each key; `{}` for every worker."""
    being_deleted: bool
    """It takes nothing new; `GET /projects/{id}/deletion` tells how far it is."""
    created_at: datetime

    @classmethod
    def of(cls, project: Project, being_deleted: bool = False) -> Self:
        return from_row(cls, project, being_deleted=being_deleted)


class ProjectDeletionOut(BaseModel):
    """What is erased of a project, or was: it outlives the project."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    id: str
    """The project's."""
    name: str
    state: DeletionState
    """`stopping` until no worker holds any of its work, `erasing`, `clearing_workers` until each worker online has
    cleared its disk, and `finished`: nothing of the project is left."""
    num_rows: dict[str, int]
    """Rows deleted so far, by table."""
    num_objects: int
    """Stored objects found when the project had come to rest."""
    num_bytes: int
    """Their size."""
    num_live_streams: int
    """Streams of live metrics deleted from Redis."""
    work_folders: dict[str, int]
    """Folders of attempts that each worker, by id, has removed from its disk."""
    created_at: datetime
    finished_at: datetime | None
