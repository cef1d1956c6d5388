"""The table of projects that are being deleted, or were."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, created


class ProjectDeletion(Base):
    """What is, or was, erased of a project. It outlives the project's row, so it has no `project_id`."""

    __tablename__ = "project_deletions"

    id: Mapped[str] = mapped_column(primary_key=True)
    """The project's id."""
    name: Mapped[str]
    state: Mapped[str]
    """One of `app.domain.project.DeletionState`."""
    num_rows: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Rows deleted so far, by table."""
    num_objects: Mapped[int] = mapped_column(server_default=text("0"))
    """Stored objects found when the project had come to rest."""
    num_bytes: Mapped[int] = mapped_column(server_default=text("0"))
    """Their size."""
    num_live_streams: Mapped[int] = mapped_column(server_default=text("0"))
    """Streams of live metrics deleted from Redis."""
    work_folders: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Folders of attempts that each worker, by id, has removed; a worker that had none says 0."""
    created_at: Mapped[datetime] = created()
    finished_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_project_deletions_unfinished", "id", postgresql_where=text("finished_at IS NULL")),)
