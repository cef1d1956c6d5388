"""Defines the errors of requests about projects."""

from collections.abc import Sequence

from app.errors import Conflict, NotFound

NAMES_SHOWN = 20


class ProjectNotFound(NotFound):
    code, noun, listing = "project_not_found", "project", "/projects"

    def __init__(self, name: str, known: Sequence[str], closest: str | None) -> None:
        super().__init__()
        self.name = name
        advice = f" Did you mean {closest!r}?" if closest else ""
        more = ", …" if len(known) > NAMES_SHOWN else ""
        there_are = f" There are: {', '.join(known[:NAMES_SHOWN])}{more}." if known else ""
        self.args = (
            f"There is no project {name!r:.80}.{advice}{there_are} Create one with `tunewright projects create NAME`.",
        )


class ProjectDeletionNotFound(NotFound):
    """The project is not being deleted; DELETE the project to start."""

    code = "project_deletion_not_found"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__()
        self.args = (f"Project {name!r} is not being deleted; `DELETE /projects/{name}` begins that.",)


class ProjectAlreadyExists(Conflict):
    """A project with this name exists; choose another name."""

    code = "project_already_exists"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"There is a project named {name!r} already; choose another name.")


class ProjectBeingDeleted(Conflict):
    """The project is being deleted; wait until it is deleted."""

    code = "project_being_deleted"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"Project {name!r} is being deleted; wait until it is gone.")


class LastProject(Conflict):
    """A server needs a project; create another one before you delete the last."""

    code = "last_project"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{name!r} is the only project, and a server needs one; create another one first.")


class OwnProject(Conflict):
    """The API key belongs to this project, and would be revoked; use an administrator's key of another project."""

    code = "own_project"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"This API key belongs to project {name!r} and would be revoked with it; use an administrator's key of "
            "another project, or `tunewright projects delete` on the server's machine."
        )
