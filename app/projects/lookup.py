"""Looks up projects by name or id."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Project
from app.domain.ids import new_id


def find_or_create_project(session: Session, name: str) -> str:
    """Return the project's id."""
    session.execute(insert(Project).values(id=new_id("proj"), name=name).on_conflict_do_nothing())
    return session.scalars(select(Project.id).where(Project.name == name)).one()


def find_projects(session: Session, names: Collection[str]) -> dict[str, str]:
    """Return the ids of the existing projects, by name."""
    query = select(Project.name, Project.id).where(Project.name.in_(names)).order_by(Project.name)
    return {row.name: row.id for row in session.execute(query)}


def allowed_labels_of(session: Session, id: str) -> Mapping[str, Sequence[str]]:
    allowed: Mapping[str, Sequence[str]] = session.scalars(select(Project.allowed_labels).where(Project.id == id)).one()
    return allowed
