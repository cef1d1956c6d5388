"""Defines the table of datasets' grouped problems."""

from sqlalchemy import ForeignKey, PrimaryKeyConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, project_id_column


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
