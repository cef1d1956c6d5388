"""Defines the tables of metrics."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, PrimaryKeyConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, project_id_column


class MetricValue(Base):
    """Stores one named value of a metric point. `number` counts the points of an attempt."""

    __tablename__ = "metric_values"

    project_id: Mapped[str] = project_id_column()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    name: Mapped[str]
    step: Mapped[int]
    number: Mapped[int]
    value: Mapped[float]
    measured_at: Mapped[datetime]

    __table_args__ = (
        PrimaryKeyConstraint("job_id", "attempt", "name", "step"),
        Index("ix_metric_values_point", "job_id", "attempt", "number"),
    )


class MetricBucket(Base):
    """Aggregates one attempt's values of one name over the `width` steps from `start`: their number, and the lowest and
    highest, each with its step. It is written in the same transaction as the values."""

    __tablename__ = "metric_buckets"

    project_id: Mapped[str] = project_id_column()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    name: Mapped[str]
    width: Mapped[int]
    """Is one of `app.jobs.metrics.buckets.WIDTHS`."""
    start: Mapped[int]
    """Is a multiple of the width."""
    num_values: Mapped[int]
    min_value: Mapped[float]
    min_step: Mapped[int]
    max_value: Mapped[float]
    max_step: Mapped[int]

    __table_args__ = (PrimaryKeyConstraint("job_id", "attempt", "name", "width", "start"),)
