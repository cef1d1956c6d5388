"""Defines the tables of uploads by parts."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from app.db.base import Base, created_at_column, project_id_column


class Upload(Base):
    """Stores a file that arrives in parts, until it is a dataset."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project_id_column()
    filename: Mapped[str]
    unsafe_filename: Mapped[bool] = mapped_column(server_default=text("false"))
    size: Mapped[int]
    """Is the number of bytes of the whole file, as announced at its creation."""
    state: Mapped[str]
    format: Mapped[str | None]
    """Is the format of its rows, if its sender named it."""
    columns: Mapped[dict[str, Any] | None]
    """Is the mapping that the dataset will have."""
    dataset_expires_after_seconds: Mapped[float | None]
    part_ids: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """Lists the file's parts in order. It is set when the upload is completed, as are the next two."""
    md5: Mapped[str | None]
    """Is the MD5 of the whole file in hex, as its sender gave it."""
    dataset_id: Mapped[str | None]
    joining_until: Mapped[datetime | None]
    """Is the lease of the light worker that assembles its parts, or did when `worker_id` was written."""
    worker_id: Mapped[str | None]
    joined_at: Mapped[datetime | None]
    """Is the time at which the dataset had all its bytes and the parts were released."""
    created_at: Mapped[datetime] = created_at_column()
    expires_at: Mapped[datetime]
    """Is the time at which a pending upload expires."""
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_uploads_page", "project_id", "created_at", "id"),
        Index("ix_uploads_expiry", "expires_at", postgresql_where=text("state = 'pending'")),
        Index("ix_uploads_joining", "ended_at", postgresql_where=text("state = 'completed' AND joined_at IS NULL")),
        Index("ix_uploads_worker", "worker_id", postgresql_where=text("joining_until IS NOT NULL")),
        Index("ix_uploads_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    )


class UploadPart(Base):
    __tablename__ = "upload_parts"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project_id_column()
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"))
    storage_key: Mapped[str]
    size: Mapped[int]
    sha256: Mapped[str]
    created_at: Mapped[datetime] = created_at_column()

    __table_args__ = (Index(None, "upload_id"), Index(None, "storage_key"))
