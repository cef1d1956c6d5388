"""The table of jobs that clients of OpenAI's kind have created."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, created, project


class OpenAICreateResponse(Base):
    """Kept so that a create whose answer was lost makes no second job: see `app.openai.jobs.create_repository`."""

    __tablename__ = "openai_create_responses"

    project_id: Mapped[str] = project()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    request_sha256: Mapped[str]
    """Of the API key's id and the body."""
    sent_again: Mapped[bool]
    """It was made by a request that counted a retry, whose first sending had made nothing yet."""
    created_at: Mapped[datetime] = created()

    __table_args__ = (Index(None, "request_sha256"), Index(None, "created_at"))
