"""Defines the client's methods for projects. All of them need a key with the scope `admin`."""

from collections.abc import Iterator
from typing import Any

from tunewright.transport import Transport, idempotency_header, poll
from tunewright.wire import Project, ProjectDeletion


class ProjectCalls:
    _transport: Transport

    def create_project(self, name: str, *, idempotency_key: str | None = None, **settings: Any) -> Project:
        """Create a project, with the settings of `change_project`. Use `create_key` to create its first key. For
        `idempotency_key` see `create_job`."""
        json = {"name": name} | settings
        return Project.read(
            self._transport.request_json("POST", "projects", json=json, headers=idempotency_header(idempotency_key))
        )

    def get_project(self, id: str) -> Project:
        """Return a project. Project methods accept its id or its name, unless documented otherwise."""
        return Project.read(self._transport.request_json("GET", "projects", id))

    def list_projects(self) -> Iterator[Project]:
        """List all projects of the server, newest first."""
        return map(Project.read, self._transport.iterate_pages("projects"))

    def change_project(self, id: str, **changes: Any) -> Project:
        """Change a project's settings: `max_running_jobs=2`, or None for no limit;
        `allowed_labels={"pool": ["a", "b"]}`, or an empty dict for every worker."""
        return Project.read(self._transport.request_json("PATCH", "projects", id, json=changes))

    def delete_project(self, id: str) -> ProjectDeletion:
        """Erase everything that belongs to the project. This cannot be undone. See `wait_for_project_deletion`."""
        return ProjectDeletion.read(self._transport.request_json("DELETE", "projects", id))

    def get_project_deletion(self, id: str) -> ProjectDeletion:
        """Return the deletion of a project. The project's id works even after the project has been deleted."""
        return ProjectDeletion.read(self._transport.request_json("GET", "projects", id, "deletion"))

    def wait_for_project_deletion(self, id: str) -> ProjectDeletion:
        """Wait until the deletion is `finished`, and return it with what was erased. Requires the project's id, because
        a new project can have the name."""
        return poll(lambda: self.get_project_deletion(id), lambda deletion: deletion.state == "finished")
