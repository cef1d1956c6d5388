"""Stores projects and their deletions in the database."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, delete, exists, func, literal_column, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from app.db.base import Base, select_page
from app.db.project_tables import ProjectDeletion
from app.db.tables import ApiKey, Project
from app.domain.cursor import Cursor
from app.domain.project import DeletionState


class ProjectRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add_unless_named(self, id: str, **values: object) -> Project | None:
        """Insert the project, or do nothing if there is one with this name."""
        statement = postgresql.insert(Project).values(id=id, **values).on_conflict_do_nothing().returning(Project)
        return self.session.scalars(statement).one_or_none()

    def find(self, name: str, *, lock: bool = False) -> Project | None:
        """Find the project by its name or its id. A name never has the form of an id."""
        query = select(Project).where(or_(Project.name == name, Project.id == name))
        return self.session.scalars(query.with_for_update() if lock else query).one_or_none()

    def list(self, limit: int, after: Cursor | None) -> Sequence[Project]:
        """Return one more than `limit`, newest first."""
        return self.session.scalars(select_page(select(Project), Project, limit, after)).all()

    def all(self, *, lock: bool = False) -> Sequence[Project]:
        """Return all projects, ordered by name."""
        query = select(Project).order_by(Project.name)
        return self.session.scalars(query.with_for_update() if lock else query).all()

    def add_deletion(self, project: Project) -> ProjectDeletion:
        deletion = ProjectDeletion(id=project.id, name=project.name, state=DeletionState.stopping)
        self.session.add(deletion)
        self.session.flush()
        self.session.refresh(deletion)
        return deletion

    def finish_deletion(self, deletion: ProjectDeletion) -> None:
        """Mark a deletion as finished, by the database's clock."""
        deletion.state, deletion.finished_at = DeletionState.finished, func.clock_timestamp()

    def find_deletion(self, id: str, *, lock: bool = False) -> ProjectDeletion | None:
        query = select(ProjectDeletion).where(ProjectDeletion.id == id).execution_options(populate_existing=True)
        return self.session.scalars(query.with_for_update() if lock else query).one_or_none()

    def being_deleted(self, ids: Collection[str]) -> Collection[str]:
        """Return the ids of those projects that are being deleted."""
        return self.session.scalars(select(ProjectDeletion.id).where(ProjectDeletion.id.in_(ids))).all()

    def deletions_under_way(self) -> Sequence[ProjectDeletion]:
        query = select(ProjectDeletion).where(ProjectDeletion.finished_at.is_(None))
        return self.session.scalars(query.order_by(ProjectDeletion.created_at)).all()

    def deletions_to_clear(self, worker_id: str, present: Collection[str]) -> Sequence[str]:
        unreported = ProjectDeletion.finished_at.is_(None) & ~ProjectDeletion.work_folders.has_key(worker_id)
        query = select(ProjectDeletion.id).where(
            ProjectDeletion.state.in_([DeletionState.clearing_workers, DeletionState.finished]),
            unreported | ProjectDeletion.id.in_(present),
        )
        return self.session.scalars(query).all()

    def revoke_keys(self, id: str) -> None:
        valid = (ApiKey.project_id == id, ApiKey.revoked_at.is_(None))
        self.session.execute(update(ApiKey).where(*valid).values(revoked_at=func.now()))

    def delete_rows(self, table: Table, id: str, limit: int | None = None) -> int:
        """Delete rows of the project from a table, at most `limit`, and return how many."""
        batch = table.alias("batch")
        rows: Select[Any] = (
            select(literal_column("batch.ctid")).select_from(batch).where(batch.c.project_id == id).limit(limit)
        )
        result = self.session.execute(delete(table).where(literal_column(f"{table.name}.ctid").in_(rows)))
        return int(result.rowcount)  # type: ignore[attr-defined]  # a DELETE's result has it

    def delete(self, id: str) -> None:
        self.session.execute(delete(Project).where(Project.id == id))


def is_being_deleted(project_id: Any) -> ColumnElement[bool]:
    """Return the condition that the project's work must not be claimed any more."""
    return exists().where(ProjectDeletion.id == project_id)


def tables_of_projects() -> list[Table]:
    """Return every table whose rows belong to a project; tables that others reference come last."""
    return [
        table
        for table in reversed(Base.metadata.sorted_tables)
        if any(key.target_fullname == "projects.id" for key in table.foreign_keys)
    ]
