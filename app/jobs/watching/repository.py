"""Finds in the database which watched jobs have changed."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from app.domain.jobs.state import JobState
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
