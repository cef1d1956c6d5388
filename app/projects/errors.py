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
        existing = f" Existing projects: {', '.join(known[:NAMES_SHOWN])}{more}." if known else ""
        self.args = (
            f"No project has the name {name!r:.80}.{advice}{existing} "
            "Create one with `tunewright projects create NAME`.",
        )


class ProjectDeletionNotFound(NotFound):
    """The project is not being deleted; DELETE the project to start."""

    code = "project_deletion_not_found"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__()
        self.args = (f"Project {name!r} is not being deleted; start with `DELETE /projects/{name}`.",)


class ProjectAlreadyExists(Conflict):
    """A project with this name already exists; choose another name."""

    code = "project_already_exists"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"A project named {name!r} already exists; choose another name.")


class ProjectBeingDeleted(Conflict):
    """The project is being deleted; wait until it is deleted."""

    code = "project_being_deleted"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"Project {name!r} is being deleted; wait until it is deleted.")


class LastProject(Conflict):
    """This is the only project; create another one before you delete it."""

    code = "last_project"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{name!r} is the only project; create another one before you delete it.")


class OwnProject(Conflict):
    """The API key belongs to this project; use a key with the scope `admin` of another project."""

    code = "own_project"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"This API key belongs to project {name!r} and would be revoked with it; use a key with the scope "
            "'admin' of another project, or run `tunewright projects delete` on the server's machine."
        )
