"""Projects by name; a new installation has one, `default`."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Project
from app.domain.identity import new_id


def find_or_create_project(session: Session, name: str) -> str:
    """The project's id."""
    session.execute(insert(Project).values(id=new_id("proj"), name=name).on_conflict_do_nothing())
    return session.scalars(select(Project.id).where(Project.name == name)).one()


def find_projects(session: Session, names: Collection[str]) -> dict[str, str]:
    """Ids by name, of those that exist."""
    query = select(Project.name, Project.id).where(Project.name.in_(names)).order_by(Project.name)
    return {row.name: row.id for row in session.execute(query)}


def limit_project(session: Session, name: str, max_running_jobs: int | None) -> bool:
    """Let so many of its jobs run at once, or any number; False if there is no such project."""
    limited = update(Project).where(Project.name == name).values(max_running_jobs=max_running_jobs)
    return session.scalars(limited.returning(Project.id)).one_or_none() is not None


def allow_labels(session: Session, name: str, allowed: Mapping[str, Sequence[str]]) -> bool:
    """Let its jobs run only on workers that have one of the values of each key; False if there is no such project."""
    changed = update(Project).where(Project.name == name).values(allowed_labels=dict(allowed))
    return session.scalars(changed.returning(Project.id)).one_or_none() is not None


def allowed_labels_of(session: Session, id: str) -> Mapping[str, Sequence[str]]:
    allowed: Mapping[str, Sequence[str]] = session.scalars(select(Project.allowed_labels).where(Project.id == id)).one()
    return allowed


def get_project(session: Session, name: str) -> Project:
    return session.scalars(select(Project).where(Project.name == name).execution_options(populate_existing=True)).one()


def all_projects(session: Session) -> Sequence[Project]:
    """By name."""
    return session.scalars(select(Project).order_by(Project.name)).all()
