"""Projects: named by the operator, deleted with everything that is theirs."""

import difflib
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy.orm import Session

from app.db.project_tables import ProjectDeletion
from app.db.tables import Project
from app.domain.identity import new_id
from app.domain.project import PROJECT_NAME
from app.errors import BadRequest
from app.projects.errors import LastProject, ProjectBeingDeleted, ProjectExists, ProjectNotFound
from app.projects.repository import ProjectRepository


class ProjectService:
    def __init__(self, session: Session) -> None:
        self.projects = ProjectRepository(session)

    def create(self, name: str) -> Project:
        if not PROJECT_NAME.fullmatch(name):
            raise BadRequest(
                f"{name!r:.80} cannot name a project; use up to 64 letters, digits, '.', '_' and '-', "
                "beginning with a letter or a digit."
            )
        if found := self.projects.find(name):
            raise ProjectBeingDeleted(name) if self.projects.find_deletion(found.id) else ProjectExists(name)
        project = Project(id=new_id("proj"), name=name)
        self.projects.add(project)
        return project

    def get(self, name: str, *, lock: bool = False) -> Project:
        """One that is not being deleted. `lock` keeps it from being deleted until the transaction ends."""
        project = self.projects.find(name, lock=lock)
        if project is None:
            known = [each.name for each in self.projects.list()]
            closest = difflib.get_close_matches(name, known, n=1)
            raise ProjectNotFound(name, known, closest[0] if closest else None)
        if self.projects.find_deletion(project.id):
            raise ProjectBeingDeleted(name)
        return project

    def list(self) -> Sequence[Project]:
        return self.projects.list()

    def set_limit(self, name: str, max_running_jobs: int | None) -> Project:
        """Let so many of its jobs run at once, or any number."""
        project = self.get(name, lock=True)
        project.max_running_jobs = max_running_jobs
        return project

    def set_labels(self, name: str, allowed: Mapping[str, Sequence[str]]) -> Project:
        """Let its jobs run only on workers that have one of the values of each key."""
        project = self.get(name, lock=True)
        project.allowed_labels = dict(allowed)
        return project

    def get_for_deletion(self, name: str) -> Project:
        """One that may be deleted, or is being deleted."""
        # All are locked, so that of the last two only one can go.
        projects = self.projects.list(lock=True)
        project = next((each for each in projects if each.name == name), None) or self.get(name)
        others = [each for each in projects if each is not project and not self.projects.find_deletion(each.id)]
        if not others and not self.projects.find_deletion(project.id):
            raise LastProject(name)
        return project

    def request_deletion(self, name: str) -> ProjectDeletion:
        """Revoke the project's keys, and have the dispatcher erase everything that is the project's. Again is no
        error."""
        project = self.get_for_deletion(name)
        if deletion := self.projects.find_deletion(project.id):
            return deletion
        self.projects.revoke_keys(project.id)
        return self.projects.add_deletion(project)

    def find_deletion(self, id: str) -> ProjectDeletion | None:
        return self.projects.find_deletion(id)

    def deletions_to_clear(self, worker_id: str, present: Collection[str]) -> Sequence[str]:
        """Ids of projects whose folders a worker must remove: it holds some of these (`present`), or must say that it
        holds none."""
        return self.projects.deletions_to_clear(worker_id, present)

    def report_work_folders(self, id: str, worker_id: str, num_folders: int) -> None:
        """Note how many folders a worker has removed, over all its reports."""
        deletion = self.projects.find_deletion(id, lock=True)
        if deletion:
            so_far = deletion.work_folders.get(worker_id, 0)
            deletion.work_folders = deletion.work_folders | {worker_id: so_far + num_folders}
