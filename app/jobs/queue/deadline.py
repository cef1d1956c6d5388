"""The running time that a job may take: all its attempts together, lost ones too, by the database's clock."""

from sqlalchemy import ColumnElement, func, select

from app.db.tables import Attempt, Job

SPENT = "The job has run for as long as its max_duration_seconds allows, over all its attempts."
"""The sentence its user reads."""


def seconds_left() -> ColumnElement[float | None]:
    """Of a row of `jobs`, as a column of a query on it; null without a limit, below zero when it is spent."""
    ran = func.extract("epoch", func.coalesce(Attempt.ended_at, func.clock_timestamp()) - Attempt.started_at)
    spent = (
        select(func.coalesce(func.sum(ran), 0))
        .where(Attempt.project_id == Job.project_id, Attempt.job_id == Job.id)
        .correlate(Job)
        .scalar_subquery()
    )
    limit: ColumnElement[float | None] = Job.spec["max_duration_seconds"].as_float()
    return limit - spent
