"""Reads jobs with everything that is shown of them, in one statement per answer.

The statements are built once: building one of this size takes longer than running it.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Label,
    Row,
    Select,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.orm import aliased

from app.db.tables import Adapter, Attempt, Job, Project
from app.domain.cursor import Cursor
from app.domain.datasets.report import DatasetState
from app.domain.ids import is_id
from app.domain.jobs.state import JobState
from app.errors import JobNotFound
from app.jobs.queue.repository import full_projects, uses_dataset_in, uses_unusable_dataset
from app.jobs.repository import JobDetails, JobFilter
from app.workers.repository import Placement, placements, read_placements

VERSION: Final[Label[str]] = literal_column("jobs.xmin::text").label("version")
QUEUED: ColumnElement[str] = literal_column("'queued'")
"""Is a literal of the statement, not a parameter, so that the planner recognizes that the queue's index applies."""


class Standing(NamedTuple):
    """Describes the position of a queued job. `position` counts from 1, over all projects, in the order of the
    claim."""

    position: int
    is_inspected: bool
    """Is true if every dataset that it uses has passed its inspection, or failed it with few enough bad rows."""
    reached_limit: int | None
    """Gives the limit of running jobs that the project has reached; None if it may run more."""
    placements: Sequence[Placement]
    """Holds how the workers that take jobs match the job."""


class ShownJob(NamedTuple):
    job: Job
    """Is a row with a job's attributes."""
    version: str
    """Changes with every write of the job's row."""
    details: JobDetails
    standing: Standing | None = None
    """Is None if it was not requested, and for a job that is not queued."""
    basis: tuple[Any, ...] | None = None
    """Equals what `find_basis` returns for as long as the same is shown; None if that cannot be determined this way."""


def find_shown(connection: Connection, project_id: str, id: str) -> ShownJob:
    """Find the job; raise JobNotFound if the project has no such job."""
    rows = connection.execute(one_job(), {"project_id": project_id, "id": id}) if is_id(id, "ftjob") else None
    row = rows.one_or_none() if rows else None
    if row is None:
        raise JobNotFound(id)
    return _with_standing(row)


def find_many_shown(connection: Connection, project_id: str, ids: Sequence[str]) -> list[ShownJob]:
    """Return those of the jobs that exist, with their standing."""
    rows = connection.execute(several_jobs(), {"project_id": project_id, "ids": list(ids)})
    return [_with_standing(row) for row in rows]


def _with_standing(row: Row[Any]) -> ShownJob:
    if row.state != JobState.queued:
        return shown(row)._replace(basis=(row.version, row.adapter_id))
    standing = Standing(row.position, row.is_inspected, row.reached_limit, read_placements(row.placements))
    basis = (row.version, row.adapter_id, row.position, row.is_inspected, row.reached_limit, row.placements)
    # The end of a wait for an exact resume depends on the clock, and on workers that are not among its placements.
    return shown(row)._replace(standing=standing, basis=basis if row.resume_machine is None else None)


def find_basis(connection: Connection, project_id: str, id: str, *, queued: bool) -> tuple[Any, ...] | None:
    """Return the `basis` of a job that is shown as `queued` or not. Everything else that is shown is written with the
    job's row."""
    statement, parameters = basis_of_one(queued)
    row = connection.exec_driver_sql(statement, parameters | {"project_id": project_id, "id": id}).one_or_none()
    return tuple(row) if row else None


def list_shown(
    connection: Connection, project_id: str, wanted: JobFilter, limit: int, after: Cursor | None
) -> Sequence[ShownJob]:
    """Return one more than `limit`, newest first."""
    given = page_parameters(wanted, after)
    statement = page_of_jobs(frozenset(given), wanted.without_metadata)
    rows = connection.execute(statement, given | {"project_id": project_id, "limit": limit + 1})
    return [shown(row) for row in rows]


def list_shown_by_id(connection: Connection, project_id: str, ids: Sequence[str]) -> list[ShownJob]:
    """Return those of the jobs that exist, as a list shows them."""
    return [shown(row) for row in connection.execute(listed_jobs(), {"project_id": project_id, "ids": list(ids)})]


def page_parameters(wanted: JobFilter, after: Cursor | None) -> dict[str, Any]:
    return wanted.given() | ({"after_at": after.created_at, "after_id": after.id} if after else {})


def find_versions(connection: Connection, project_id: str, ids: Sequence[str]) -> dict[str, str]:
    """Return the `version` of each existing job, by id."""
    rows = connection.execute(versions(), {"project_id": project_id, "ids": list(ids)})
    return {row.id: row.version for row in rows}


def shown(row: Row[Any]) -> ShownJob:
    return ShownJob(cast(Job, row), row.version, JobDetails(row.adapter_id, row.decided or ()))


@cache
def job_columns() -> tuple[ColumnElement[Any], ...]:
    """Return a job's own columns, and the others that are shown of every job; `from_jobs` has the tables."""
    own = [
        getattr(Job, each.key).label(each.key)
        for each in Job.__mapper__.column_attrs
        if not each.deferred and each.key != "claim_token"
    ]
    numbered = func.jsonb_build_object("attempt", Attempt.number).op("||")(Attempt.resolved)
    decided = (
        select(func.jsonb_agg(aggregate_order_by(numbered, Attempt.number), type_=JSONB))
        .where(Attempt.project_id == Job.project_id, Attempt.job_id == Job.id, Attempt.resolved.is_not(None))
        .scalar_subquery()
    )
    decided_if_tried = case((Job.attempt > 0, decided)).label("decided")
    return (*own, VERSION, Adapter.id.label("adapter_id"), decided_if_tried)


def from_jobs(*columns: ColumnElement[Any]) -> Select[Any]:
    adapter = (Adapter.project_id == Job.project_id) & (Adapter.job_id == Job.id)
    return select(*columns).outerjoin_from(Job, Adapter, adapter).where(Job.project_id == bindparam("project_id"))


@cache
def one_job() -> Select[Any]:
    return from_jobs(*job_columns(), *standing_columns()).where(Job.id == bindparam("id"))


@cache
def several_jobs() -> Select[Any]:
    return from_jobs(*job_columns(), *standing_columns()).where(Job.id == func.any(bindparam("ids")))


@cache
def listed_jobs() -> Select[Any]:
    return from_jobs(*job_columns()).where(Job.id == func.any(bindparam("ids")))


@cache
def basis_of_one(queued: bool) -> tuple[str, dict[str, Any]]:
    """Return the statement as text with its constants, for psycopg: looking up a statement of this size in SQLAlchemy's
    cache takes as long as PostgreSQL takes to answer it."""
    columns: tuple[ColumnElement[Any], ...] = (VERSION, Adapter.id.label("adapter_id"))
    job = {"project_id": "", "id": ""}
    query = from_jobs(*columns, *(standing_columns() if queued else ())).where(Job.id == bindparam("id"))
    written = query.params(job).compile(dialect=PGDialect_psycopg())  # type: ignore[no-untyped-call]
    expanded = written.construct_expanded_state(job)
    return expanded.statement, dict(expanded.parameters)


@cache
def versions() -> Select[Any]:
    named = Job.id == func.any(bindparam("ids"))
    columns: tuple[ColumnElement[Any], ...] = (Job.id.label("id"), VERSION)
    return select(*columns).where(Job.project_id == bindparam("project_id"), named)


@cache
def standing_columns() -> tuple[ColumnElement[Any], ...]:
    """Return the columns that only a queued job needs: a CASE skips them for other jobs."""
    ahead = aliased(Job)
    older = tuple_(ahead.created_at, ahead.id) < tuple_(Job.created_at, Job.id)
    # The second condition is redundant; it is the one that the index can look up.
    before = (ahead.state == QUEUED, ahead.priority >= Job.priority, or_(ahead.priority > Job.priority, older))
    position = select(func.count() + 1).select_from(ahead).where(*before).correlate(Job).scalar_subquery()
    is_inspected = ~uses_dataset_in(DatasetState.uploading, DatasetState.inspecting) & ~uses_unusable_dataset()
    limits = select(Project.max_running_jobs).where(Project.id == Job.project_id, Project.id.in_(full_projects()))
    columns = {
        "position": position,
        "is_inspected": is_inspected,
        "reached_limit": limits.scalar_subquery(),
        "placements": placements(taking_jobs=True),
    }
    return tuple(case((Job.state == QUEUED, column)).label(name) for name, column in columns.items())


@cache
def page_of_jobs(given: frozenset[str], without_metadata: bool, *columns: ColumnElement[Any]) -> Select[Any]:
    """Build the statement for the names of the given filters, as in `JobFilter.given`."""
    conditions = {
        "states": Job.state == func.any(bindparam("states")),
        "base_model": Job.base_model == bindparam("base_model"),
        "created_after": Job.created_at > bindparam("created_after"),
        "created_before": Job.created_at < bindparam("created_before"),
        "metadata": Job.metadata_.contains(bindparam("metadata", type_=JSONB())),
        "created_by": Job.created_by_key_id == bindparam("created_by"),
        "name": or_(
            func.strpos(func.lower(Job.name), func.lower(bindparam("name"))) > 0,
            func.starts_with(Job.id, bindparam("name")),
        ),
        "after_id": tuple_(Job.created_at, Job.id) < tuple_(bindparam("after_at"), bindparam("after_id")),
    }
    query = from_jobs(*job_columns(), *columns).where(*(conditions[name] for name in sorted(given & conditions.keys())))
    if without_metadata:
        query = query.where(Job.metadata_ == literal_column("'{}'::jsonb"))
    return query.order_by(Job.created_at.desc(), Job.id.desc()).limit(bindparam("limit"))
