"""The project that a new installation begins with, `default`."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Project
from app.domain.ids import new_id

FIRST_PROJECT = "default"


def find_or_create_project(session: Session, name: str) -> str:
    """The project's id."""
    session.execute(insert(Project).values(id=new_id("proj"), name=name).on_conflict_do_nothing())
    return session.scalars(select(Project.id).where(Project.name == name)).one()


def find_projects(session: Session, names: Collection[str]) -> dict[str, str]:
    """Ids by name, of those that exist."""
    query = select(Project.name, Project.id).where(Project.name.in_(names)).order_by(Project.name)
    return {row.name: row.id for row in session.execute(query)}


def allowed_labels_of(session: Session, id: str) -> Mapping[str, Sequence[str]]:
    allowed: Mapping[str, Sequence[str]] = session.scalars(select(Project.allowed_labels).where(Project.id == id)).one()
    return allowed


def ensure_first_project(session: Session) -> None:
    """Create the first project of a database that has none. A name that a user mistypes never creates one."""
    if not session.scalar(select(exists().where(Project.id.is_not(None)))):
        find_or_create_project(session, FIRST_PROJECT)
