"""The tables of the model registry."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, PrimaryKeyConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from app.db.base import Base, created, project


class RegisteredModel(Base):
    """A registered base model: what the server must know of it without torch. It belongs to no project."""

    __tablename__ = "base_models"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    for_all_projects: Mapped[bool] = mapped_column(server_default=text("true"))
    """Every project may use it; otherwise those of its permissions alone."""
    state: Mapped[str]
    source: Mapped[str]
    """Absolute path of a folder, or a hub id."""
    any_path: Mapped[bool] = mapped_column(server_default=text("false"))
    """The folder was named on the server's machine, and may lie outside the allowed roots."""
    wanted_revision: Mapped[str | None]
    """Branch, tag or commit of a hub that was asked for."""
    revision: Mapped[str | None]
    """Commit of a hub, known once it has answered; of a folder the digest of its files, known once all were read."""
    hub_name: Mapped[str | None]
    """Id on the hub that a folder's model is said to have. Nobody has checked it."""
    hub_revision: Mapped[str | None]
    """Commit there, said likewise."""
    files: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'"))
    """`app.domain.artifact.StoredFile` each: those that storage has, or is about to get."""
    num_bytes_done: Mapped[int] = mapped_column(server_default=text("0"))
    num_bytes: Mapped[int | None]
    failure_code: Mapped[str | None]
    failure_message: Mapped[str | None]
    license: Mapped[str | None]
    license_text: Mapped[str | None] = mapped_column(deferred=True)
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    """The fence: number of the latest attempt at fetching it."""
    leased_until: Mapped[datetime | None]
    """Lease of whoever fetches it."""
    worker_id: Mapped[str | None]
    """The one that took it up last."""
    # What follows is read from its files, and says nothing before it is ready.
    architecture: Mapped[str] = mapped_column(server_default=text("''"))
    num_parameters: Mapped[int] = mapped_column(server_default=text("0"))
    max_seq_len: Mapped[int] = mapped_column(server_default=text("0"))
    linear_modules: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Full names of the modules that hold a 2-D weight, embeddings and head apart."""
    config: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = created()
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index("uq_base_models_name", "name", unique=True, postgresql_where=text("state <> 'removed'")),
        Index("ix_base_models_waiting", "created_at", postgresql_where=text("state IN ('pending', 'fetching')")),
    )

    @property
    def hub(self) -> str | None:
        """Its id on the hub, if it came from there; `revision` is the commit then."""
        return None if self.source.startswith("/") else self.source


class ModelPermission(Base):
    """A project that may use a model which is not for all projects."""

    __tablename__ = "model_permissions"

    project_id: Mapped[str] = project()
    model_id: Mapped[str] = mapped_column(ForeignKey("base_models.id", ondelete="CASCADE"))

    __table_args__ = (PrimaryKeyConstraint("model_id", "project_id"),)
