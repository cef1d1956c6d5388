"""The part of the client that deals with projects. All of it needs a key with the scope `admin`."""

from collections.abc import Iterator
from typing import Any

from tunewright.transport import Transport, once, poll
from tunewright.wire import Project, ProjectDeletion


class ProjectCalls:
    _transport: Transport

    def create_project(self, name: str, *, idempotency_key: str | None = None, **settings: Any) -> Project:
        """Its settings are those of `change_project`. It has no key until `create_key` makes one. For the idempotency
        key see `create_job`."""
        json = {"name": name} | settings
        return Project.read(self._transport.ask("POST", "projects", json=json, headers=once(idempotency_key)))

    def get_project(self, id: str) -> Project:
        """By its id or its name, as in all that follows."""
        return Project.read(self._transport.ask("GET", "projects", id))

    def list_projects(self) -> Iterator[Project]:
        """All projects of the server, newest first."""
        return map(Project.read, self._transport.pages("projects"))

    def change_project(self, id: str, **changes: Any) -> Project:
        """`max_running_jobs=2`, None for any number; `allowed_labels={"pool": ["a", "b"]}`, empty for every worker."""
        return Project.read(self._transport.ask("PATCH", "projects", id, json=changes))

    def delete_project(self, id: str) -> ProjectDeletion:
        """Have everything that is the project's erased; it cannot be undone. See `wait_for_project_deletion`."""
        return ProjectDeletion.read(self._transport.ask("DELETE", "projects", id))

    def get_project_deletion(self, id: str) -> ProjectDeletion:
        """By the project's id also once the project is gone."""
        return ProjectDeletion.read(self._transport.ask("GET", "projects", id, "deletion"))

    def wait_for_project_deletion(self, id: str) -> ProjectDeletion:
        """Until it is `finished`: what was erased. Takes the project's id, because a name can be used again."""
        return poll(lambda: self.get_project_deletion(id), lambda deletion: deletion.state == "finished")
