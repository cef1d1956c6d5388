"""Projects by name; a new installation has one, `default`."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Project
from app.domain.identity import new_id


def find_or_create_project(session: Session, name: str) -> str:
    """The project's id."""
    session.execute(insert(Project).values(id=new_id("proj"), name=name).on_conflict_do_nothing())
    return session.scalars(select(Project.id).where(Project.name == name)).one()
