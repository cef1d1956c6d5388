"""Computes a job's remaining running time: the limit covers all its attempts, including lost ones, by the database's
clock."""

from sqlalchemy import ColumnElement, func, select

from app.db.tables import Attempt, Job

SPENT = "The job reached its max_duration_seconds, counted over all attempts."
"""Is the message of the failure."""


def seconds_left() -> ColumnElement[float | None]:
    """Return the column of the remaining seconds, for a query on `jobs`; null without a limit, below zero when the time
    is used up."""
    ran = func.extract("epoch", func.coalesce(Attempt.ended_at, func.clock_timestamp()) - Attempt.started_at)
    spent = (
        select(func.coalesce(func.sum(ran), 0))
        .where(Attempt.project_id == Job.project_id, Attempt.job_id == Job.id)
        .correlate(Job)
        .scalar_subquery()
    )
    limit: ColumnElement[float | None] = Job.spec["max_duration_seconds"].as_float()
    return limit - spent
