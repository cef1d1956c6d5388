"""Defines the table of projects' deletions, running and finished."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, created_at_column


class ProjectDeletion(Base):
    """Records what is erased of a project. It outlives the project's row, so it has no `project_id`."""

    __tablename__ = "project_deletions"

    id: Mapped[str] = mapped_column(primary_key=True)
    """Is the project's id."""
    name: Mapped[str]
    state: Mapped[str]
    """Is one of `app.domain.project.DeletionState`."""
    num_rows: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Counts the rows deleted so far, by table."""
    num_objects: Mapped[int] = mapped_column(server_default=text("0"))
    """Counts the stored objects found once no work of the project ran."""
    num_bytes: Mapped[int] = mapped_column(server_default=text("0"))
    """Is the size of these objects."""
    num_live_streams: Mapped[int] = mapped_column(server_default=text("0"))
    """Counts the streams of live metrics deleted from Redis."""
    work_folders: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Counts the folders of attempts that each worker, by id, has removed. A worker without any reports 0."""
    created_at: Mapped[datetime] = created_at_column()
    finished_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_project_deletions_unfinished", "id", postgresql_where=text("finished_at IS NULL")),)
