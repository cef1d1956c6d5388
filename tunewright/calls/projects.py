"""Defines the client's methods for projects. All of them need a key with the scope `admin`."""

from collections.abc import Iterator
from typing import Any

from tunewright.transport import Transport, once, poll
from tunewright.wire import Project, ProjectDeletion


class ProjectCalls:
    _transport: Transport

    def create_project(self, name: str, *, idempotency_key: str | None = None, **settings: Any) -> Project:
        """Create a project, with the settings of `change_project`. It has no key until `create_key` creates one. For
        `idempotency_key` see `create_job`."""
        json = {"name": name} | settings
        return Project.read(self._transport.ask("POST", "projects", json=json, headers=once(idempotency_key)))

    def get_project(self, id: str) -> Project:
        """Return a project. All project methods accept its id or its name unless they say otherwise."""
        return Project.read(self._transport.ask("GET", "projects", id))

    def list_projects(self) -> Iterator[Project]:
        """List all projects of the server, newest first."""
        return map(Project.read, self._transport.pages("projects"))

    def change_project(self, id: str, **changes: Any) -> Project:
        """Change a project's settings: `max_running_jobs=2`, None for no limit; `allowed_labels={"pool": ["a", "b"]}`,
        empty for every worker."""
        return Project.read(self._transport.ask("PATCH", "projects", id, json=changes))

    def delete_project(self, id: str) -> ProjectDeletion:
        """Erase everything that belongs to the project. This cannot be undone. See `wait_for_project_deletion`."""
        return ProjectDeletion.read(self._transport.ask("DELETE", "projects", id))

    def get_project_deletion(self, id: str) -> ProjectDeletion:
        """Return a project's deletion. It is found by the project's id even after the project is gone."""
        return ProjectDeletion.read(self._transport.ask("GET", "projects", id, "deletion"))

    def wait_for_project_deletion(self, id: str) -> ProjectDeletion:
        """Wait until the deletion is `finished`, and return what was erased. Requires the project's id, because a name
        can be used again."""
        return poll(lambda: self.get_project_deletion(id), lambda deletion: deletion.state == "finished")
