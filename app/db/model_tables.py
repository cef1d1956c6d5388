"""Defines the tables of the model registry."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, PrimaryKeyConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from app.db.base import Base, created_at_column, project_id_column


class RegisteredModel(Base):
    """Stores a registered base model with the facts that the server needs without torch. It belongs to no project."""

    __tablename__ = "base_models"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    for_all_projects: Mapped[bool] = mapped_column(server_default=text("true"))
    """Says whether every project may use it. If not, only those with a permission may."""
    state: Mapped[str]
    source: Mapped[str]
    """Is the absolute path of a folder, or a hub id."""
    any_path: Mapped[bool] = mapped_column(server_default=text("false"))
    """Says that the folder was named on the server's machine, and may lie outside the allowed roots."""
    wanted_revision: Mapped[str | None]
    """Is the requested branch, tag or commit on the hub."""
    revision: Mapped[str | None]
    """Is the commit on the hub, known once the hub has answered, or the digest of a folder's files, known once all were
    read."""
    hub_name: Mapped[str | None]
    """Is the hub id that the operator gave for a folder's model. It is not verified."""
    hub_revision: Mapped[str | None]
    """Is the commit of that hub id. It is not verified either."""
    files: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'"))
    """Lists each `app.domain.artifact.StoredFile` that is stored or about to be."""
    num_bytes_done: Mapped[int] = mapped_column(server_default=text("0"))
    num_bytes: Mapped[int | None]
    failure_code: Mapped[str | None]
    failure_message: Mapped[str | None]
    license: Mapped[str | None]
    license_text: Mapped[str | None] = mapped_column(deferred=True)
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    """Is the fence: the number of the latest attempt to fetch it."""
    leased_until: Mapped[datetime | None]
    """Is the lease of the worker that fetches it."""
    worker_id: Mapped[str | None]
    """Is the worker that claimed it last."""
    # The following columns are read from the model's files, and mean nothing before it is ready.
    architecture: Mapped[str] = mapped_column(server_default=text("''"))
    num_parameters: Mapped[int] = mapped_column(server_default=text("0"))
    max_seq_len: Mapped[int] = mapped_column(server_default=text("0"))
    linear_modules: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Lists the full names of the modules with a 2-D weight, except embeddings and head."""
    config: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = created_at_column()
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index("uq_base_models_name", "name", unique=True, postgresql_where=text("state <> 'removed'")),
        Index("ix_base_models_waiting", "created_at", postgresql_where=text("state IN ('pending', 'fetching')")),
    )

    @property
    def hub(self) -> str | None:
        """Return the model's id on the hub, if it came from there. `revision` is then the commit."""
        return None if self.source.startswith("/") else self.source


class ModelPermission(Base):
    """Permits a project to use a model that is not for all projects."""

    __tablename__ = "model_permissions"

    project_id: Mapped[str] = project_id_column()
    model_id: Mapped[str] = mapped_column(ForeignKey("base_models.id", ondelete="CASCADE"))

    __table_args__ = (PrimaryKeyConstraint("model_id", "project_id"),)
