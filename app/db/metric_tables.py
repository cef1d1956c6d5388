"""The tables of metrics."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, PrimaryKeyConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, project


class MetricValue(Base):
    """One named value of a metric point. `number` counts the points of an attempt."""

    __tablename__ = "metric_values"

    project_id: Mapped[str] = project()
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
    """What the values of one name by one attempt come to over the `width` steps from `start` on: how many there are,
    the lowest and the highest, each with its step. Written in the values' own transaction."""

    __tablename__ = "metric_buckets"

    project_id: Mapped[str] = project()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    name: Mapped[str]
    width: Mapped[int]
    """One of `app.jobs.metrics.buckets.WIDTHS`."""
    start: Mapped[int]
    """A multiple of the width."""
    num_values: Mapped[int]
    min_value: Mapped[float]
    min_step: Mapped[int]
    max_value: Mapped[float]
    max_step: Mapped[int]

    __table_args__ = (PrimaryKeyConstraint("job_id", "attempt", "name", "width", "start"),)
