"""The tables of the model registry."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, PrimaryKeyConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from app.db.base import Base, created, project


class BaseModel(Base):
    """A registered base model: what the server must know of it without torch. It belongs to no project."""

    __tablename__ = "base_models"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    for_all_projects: Mapped[bool] = mapped_column(server_default=text("true"))
    """Every project may use it; otherwise those of its permissions alone."""
    source: Mapped[str]
    """Absolute path of a folder, or a hub id."""
    revision: Mapped[str | None]
    architecture: Mapped[str]
    num_parameters: Mapped[int]
    max_seq_len: Mapped[int]
    linear_modules: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Full names of the modules that hold a 2-D weight, embeddings and head apart."""
    config: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = created()

    __table_args__ = (Index("uq_base_models_name", "name", unique=True),)


class ModelPermission(Base):
    """A project that may use a model which is not for all projects."""

    __tablename__ = "model_permissions"

    project_id: Mapped[str] = project()
    model_id: Mapped[str] = mapped_column(ForeignKey("base_models.id", ondelete="CASCADE"))

    __table_args__ = (PrimaryKeyConstraint("model_id", "project_id"),)
