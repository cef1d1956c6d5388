"""Defines the tables of what is found out about datasets: grouped problems, previews and overlaps."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, PrimaryKeyConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, created_at_column, project_id_column


class DatasetProblemGroup(Base):
    """Groups a dataset's problems with the same message. `number` counts the groups in the order in which they are
    listed."""

    __tablename__ = "dataset_problem_groups"

    project_id: Mapped[str] = project_id_column()
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    number: Mapped[int]
    line: Mapped[int]
    pointer: Mapped[str]
    code: Mapped[str]
    severity: Mapped[str]
    message: Mapped[str]
    count: Mapped[int]
    lines: Mapped[list[int]] = mapped_column(JSONB(none_as_null=True))
    """Lists the first lines."""

    __table_args__ = (PrimaryKeyConstraint("dataset_id", "number"),)


class DatasetCheck(Base):
    """Stores a light worker's request on a dataset and its result. It is deleted with either of its datasets."""

    __tablename__ = "dataset_checks"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project_id_column()
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    other_dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    """Is the dataset to compare with."""
    kind: Mapped[str]
    state: Mapped[str]
    asked: Mapped[dict[str, Any]]
    totals: Mapped[dict[str, Any] | None]
    """Holds the result in a few numbers. It is set once the check is ready, as `shown` is."""
    shown: Mapped[list[dict[str, Any]] | None]
    """Holds the rows of a preview or the pairs of an overlap: some hundred kilobytes at most."""
    failure_code: Mapped[str | None]
    failure_message: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    """Is the fence: the number of the latest attempt."""
    leased_until: Mapped[datetime | None]
    """Is the lease of the light worker that runs it."""
    worker_id: Mapped[str | None]
    """Is the worker that claimed it last."""
    created_at: Mapped[datetime] = created_at_column()
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_dataset_checks_page", "dataset_id", "kind", "created_at", "id"),
        Index(None, "other_dataset_id", postgresql_where=text("other_dataset_id IS NOT NULL")),
        Index("ix_dataset_checks_worker", "worker_id", postgresql_where=text("leased_until IS NOT NULL")),
        Index("ix_dataset_checks_pending", "created_at", postgresql_where=text("state = 'pending'")),
    )
