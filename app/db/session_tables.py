"""Defines the tables of browsers' sessions and of the installation's id."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, created_at_column, project_id_column


class BrowserSession(Base):
    """Stores a browser's session, which stands for an API key. `sha256` is the digest of its token, which only the
    browser has."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project_id_column()
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    sha256: Mapped[str]
    created_at: Mapped[datetime] = created_at_column()
    expires_at: Mapped[datetime]

    __table_args__ = (Index("ix_sessions_key", "key_id", "created_at", "id"), Index(None, "expires_at"))


class Installation(Base):
    """Stores the random id of this installation, in one row that the migration makes. It is part of the session
    cookie's name, because cookies do not distinguish the servers on the ports of one host."""

    __tablename__ = "installation"

    id: Mapped[str] = mapped_column(primary_key=True)
