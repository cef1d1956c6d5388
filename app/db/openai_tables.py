"""Defines the table of jobs that were created through the OpenAI-compatible API."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, created_at_column, project_id_column


class OpenAICreateResponse(Base):
    """Stores a create, so that a retry after a lost answer makes no second job: see
    `app.openai.jobs.create_repository`."""

    __tablename__ = "openai_create_responses"

    project_id: Mapped[str] = project_id_column()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    request_sha256: Mapped[str]
    """Is the digest of the API key's id and the body."""
    sent_again: Mapped[bool]
    """Says that a request with a count of retries created the job, because its first sending had created nothing
    yet."""
    created_at: Mapped[datetime] = created_at_column()

    __table_args__ = (Index(None, "request_sha256"), Index(None, "created_at"))
