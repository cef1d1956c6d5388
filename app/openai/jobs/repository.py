"""Reads jobs with everything that OpenAI's client is shown, in one statement per answer, which is built once."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, case, func, literal_column, select

from app.db.tables import Artifact, Job
from app.domain.artifact import ArtifactKind
from app.domain.cursor import Cursor
from app.domain.datasets.report import DatasetState
from app.domain.ids import is_id
from app.errors import JobNotFound
from app.jobs.queue.repository import uses_dataset_in
from app.jobs.repository import JobDetails, JobFilter
from app.jobs.shown import QUEUED, from_jobs, job_columns, page_of_jobs, page_parameters, shown

SHOWN_FILES: Final = (ArtifactKind.step_metrics, ArtifactKind.adapter_archive)
"""Lists the artifacts that are result files, in this order: clients that read the first one expect the metrics."""


class ShownFineTune(NamedTuple):
    job: Job
    """Is a row with a job's attributes."""
    details: JobDetails
    is_inspecting: bool
    """Is true while it waits for a dataset to arrive or to be inspected."""
    files: dict[str, str]
    """Holds the ids of its artifacts in `SHOWN_FILES`, by kind."""


def find_fine_tune(connection: Connection, project_id: str, id: str) -> ShownFineTune:
    """Find the job; raise JobNotFound if the project has no such job."""
    rows = connection.execute(_one(), {"project_id": project_id, "id": id}) if is_id(id, "ftjob") else None
    row = rows.one_or_none() if rows else None
    if row is None:
        raise JobNotFound(id)
    return _read_shown_job(row)


def list_fine_tunes(
    connection: Connection, project_id: str, wanted: JobFilter, limit: int, after: Cursor | None
) -> Sequence[ShownFineTune]:
    """Return one more than `limit`, newest first."""
    given = page_parameters(wanted, after)
    statement = page_of_jobs(frozenset(given), wanted.without_metadata, *_columns())
    rows = connection.execute(statement, given | {"project_id": project_id, "limit": limit + 1})
    return [_read_shown_job(row) for row in rows]


def _read_shown_job(row: Row[Any]) -> ShownFineTune:
    found = shown(row)
    return ShownFineTune(found.job, found.details, row.is_inspecting, row.files or {})


@cache
def _one() -> Select[Any]:
    return from_jobs(*job_columns(), *_columns()).where(Job.id == bindparam("id"))


@cache
def _columns() -> tuple[ColumnElement[Any], ...]:
    unready = uses_dataset_in(DatasetState.uploading, DatasetState.inspecting, of_few_jobs=True)
    of_job = (Artifact.project_id == Job.project_id, Artifact.job_id == Job.id, Artifact.kind.in_(SHOWN_FILES))
    files = select(func.jsonb_object_agg(Artifact.kind, Artifact.id)).where(*of_job).scalar_subquery()
    return (
        case((Job.state == QUEUED, unready), else_=False).label("is_inspecting"),
        case((Job.state == literal_column("'succeeded'"), files)).label("files"),
    )
