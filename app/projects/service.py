"""Manages projects: the operator names them, and a deletion erases everything that belongs to them."""

import difflib
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.db.project_tables import ProjectDeletion
from app.db.tables import Project
from app.domain.cursor import Cursor
from app.domain.ids import is_id, new_id
from app.domain.project import PROJECT_NAME
from app.errors import BadRequest
from app.projects.errors import (
    LastProject,
    OwnProject,
    ProjectAlreadyExists,
    ProjectBeingDeleted,
    ProjectDeletionNotFound,
    ProjectNotFound,
)
from app.projects.repository import ProjectRepository


class ProjectService:
    def __init__(self, session: Session) -> None:
        self.projects = ProjectRepository(session)

    def create(self, name: str, **settings: Any) -> Project:
        """Create a project. `settings` are as in `change`."""
        if not PROJECT_NAME.fullmatch(name) or is_id(name, "proj"):
            raise BadRequest(
                f"{name!r:.80} is not a valid project name; use up to 64 letters, digits, '.', '_' and '-', "
                "starting with a letter or digit, and not a project's id."
            )
        project = self.projects.add_unless_named(new_id("proj"), name=name, **settings)
        if project is None:
            found = self.projects.find(name)
            is_going = found is None or self.projects.find_deletion(found.id)
            raise ProjectBeingDeleted(name) if is_going else ProjectAlreadyExists(name)
        return project

    def get(self, name: str, *, lock: bool = False) -> Project:
        """Get a project that is not being deleted, by its name or its id. `lock` prevents its deletion until the
        transaction ends."""
        project = self.get_any(name, lock=lock)
        if self.projects.find_deletion(project.id):
            raise ProjectBeingDeleted(project.name)
        return project

    def get_any(self, name: str, *, lock: bool = False) -> Project:
        """Get a project, including one that is being deleted."""
        project = self.projects.find(name, lock=lock)
        if project is None:
            known = [each.name for each in self.projects.all()]
            closest = difflib.get_close_matches(name, known, n=1)
            raise ProjectNotFound(name, known, closest[0] if closest else None)
        return project

    def list(self, limit: int, after: Cursor | None) -> Sequence[Project]:
        """Return one more than `limit`, newest first."""
        return self.projects.list(limit, after)

    def all(self) -> Sequence[Project]:
        """Return all projects, ordered by name."""
        return self.projects.all()

    def being_deleted(self, projects: Collection[Project]) -> Collection[str]:
        """Return the ids of those that are being deleted."""
        return self.projects.being_deleted([project.id for project in projects])

    def change(self, name: str, **settings: Any) -> Project:
        """Change a project. `max_running_jobs` is how many of its jobs may run at once, None for any number.
        `allowed_labels` restricts its jobs to workers that have one of the values of each key."""
        project = self.get(name, lock=True)
        for field, value in settings.items():
            setattr(project, field, value)
        return project

    def get_for_deletion(self, name: str) -> Project:
        """Get a project that may be deleted, or is being deleted."""
        # All are locked, so that of the last two only one can be deleted.
        projects = self.projects.all(lock=True)
        project = self.get_any(name)
        others = [each for each in projects if each is not project and not self.projects.find_deletion(each.id)]
        if not others and not self.projects.find_deletion(project.id):
            raise LastProject(project.name)
        return project

    def request_deletion(self, name: str, by_project_id: str | None = None) -> ProjectDeletion:
        """Revoke the project's keys, and make the dispatcher erase everything that belongs to it. Repeating it is no
        error. Raise OwnProject if a key of the project itself makes the request."""
        project = self.get_for_deletion(name)
        if project.id == by_project_id:
            raise OwnProject(project.name)
        if deletion := self.projects.find_deletion(project.id):
            return deletion
        self.projects.revoke_keys(project.id)
        return self.projects.add_deletion(project)

    def get_deletion(self, name: str) -> ProjectDeletion:
        """Get the deletion by the project's id, or by its name until the project is deleted."""
        project = self.projects.find(name)
        deletion = self.projects.find_deletion(project.id if project else name)
        if deletion is None:
            raise ProjectDeletionNotFound(self.get_any(name).name)
        return deletion

    def find_deletion(self, id: str) -> ProjectDeletion | None:
        return self.projects.find_deletion(id)

    def deletions_to_clear(self, worker_id: str, present: Collection[str]) -> Sequence[str]:
        """Return the ids of projects whose folders a worker must remove: it holds some of them (`present`), or must
        confirm that it holds none."""
        return self.projects.deletions_to_clear(worker_id, present)

    def report_work_folders(self, id: str, worker_id: str, num_folders: int) -> None:
        """Add the number of folders that a worker has removed to those of its earlier reports."""
        deletion = self.projects.find_deletion(id, lock=True)
        if deletion:
            so_far = deletion.work_folders.get(worker_id, 0)
            deletion.work_folders = deletion.work_folders | {worker_id: so_far + num_folders}
