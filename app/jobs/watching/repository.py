"""Finds in the database which watched jobs, and which jobs of a project, have changed."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from app.domain.jobs.state import FINAL, JobState
from app.jobs.watching.cursors import StreamCursor

HEADS: Final = text("""
    SELECT jobs.project_id, jobs.id, jobs.state, CAST(jobs.xmin AS text) AS version, adapters.id AS adapter_id,
           jobs.last_event_number AS event, coalesce(newest.attempt, 0) AS attempt, coalesce(newest.number, 0) AS point
    FROM unnest(CAST(:project_ids AS text[]), CAST(:ids AS text[])) AS watched (project_id, id)
    JOIN jobs ON jobs.project_id = watched.project_id AND jobs.id = watched.id
    LEFT JOIN adapters ON adapters.project_id = jobs.project_id AND adapters.job_id = jobs.id
    LEFT JOIN LATERAL (
        SELECT attempt, number FROM metric_values
        WHERE project_id = jobs.project_id AND job_id = jobs.id
        ORDER BY attempt DESC, number DESC LIMIT 1
    ) AS newest ON true
""")


class JobHead(NamedTuple):
    state: JobState
    newest: StreamCursor
    """Is the position of a reader that has read all that is stored."""
    basis: tuple[str, str | None]
    """Changes with the row of the job, and with its adapter."""


def find_heads(connection: Connection, watched: Sequence[tuple[str, str]]) -> dict[tuple[str, str], JobHead]:
    """Return the heads of those jobs that exist, of at least one. Jobs are named by the ids of project and job."""
    project_ids, ids = zip(*watched, strict=True)
    rows = connection.execute(HEADS, {"project_ids": list(project_ids), "ids": list(ids)})
    return {
        (row.project_id, row.id): JobHead(
            JobState(row.state), StreamCursor(row.event, row.attempt, row.point), (row.version, row.adapter_id)
        )
        for row in rows
    }


VERSIONS: Final = text("""
    SELECT id, created_at, CAST(xmin AS text) AS version, false AS is_final FROM jobs
    WHERE project_id = :project_id AND state = ANY(CAST(:unfinished AS text[]))
    UNION ALL
    SELECT id, created_at, CAST(xmin AS text), true FROM jobs
    WHERE project_id = :project_id AND finished_at > clock_timestamp() - CAST(:recent AS interval)
    ORDER BY created_at DESC, id DESC
""")
DELETED: Final = text("""
    SELECT id FROM deleted_jobs
    WHERE project_id = :project_id AND deleted_at > clock_timestamp() - CAST(:recent AS interval)
""")
RECENT: Final = "30 s"
"""Sets the time for which the end of a job is looked for, which is more than a transaction takes to commit."""
UNFINISHED: Final = sorted(set(JobState) - FINAL)


class JobVersion(NamedTuple):
    version: str
    is_final: bool


def find_versions_of_project(connection: Connection, project_id: str) -> dict[str, JobVersion]:
    """Return the versions of the jobs that are not final or have become so recently, the newest first. Indexes find
    both, and every write of a job changes its version."""
    bound = {"project_id": project_id, "unfinished": UNFINISHED, "recent": RECENT}
    return {row.id: JobVersion(row.version, row.is_final) for row in connection.execute(VERSIONS, bound)}


def find_deleted(connection: Connection, project_id: str) -> frozenset[str]:
    """Return the jobs that were deleted recently."""
    return frozenset(connection.scalars(DELETED, {"project_id": project_id, "recent": RECENT}))
