"""Serves `/projects`: keys with the scope `admin` create, limit and delete projects. A path accepts a project's name or
its id."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from app.errors import (
    BadRequest,
    IdempotencyKeyReused,
    InvalidCursor,
    InvalidJson,
    RequestInProgress,
    TooLarge,
    UnsupportedMediaType,
)
from app.projects.errors import (
    LastProject,
    OwnProject,
    ProjectAlreadyExists,
    ProjectBeingDeleted,
    ProjectDeletionNotFound,
    ProjectNotFound,
)
from app.projects.schemas import ProjectChange, ProjectDeletionOut, ProjectIn, ProjectOut
from app.projects.service import ProjectService
from app.web.auth import AdminDep
from app.web.bodies.json_body import BodyDep, parsed, read_json
from app.web.dependencies import PageDep, SessionDep
from app.web.idempotency import Created, IdempotentCreateDep
from app.web.page_schema import Page, page_of
from app.web.problems import problems

router = APIRouter(prefix="/projects", tags=["projects"])

JsonDep = Annotated[object, Depends(read_json)]
BODY_REFUSALS = (InvalidJson, TooLarge, UnsupportedMediaType)


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


@router.post(
    "",
    status_code=201,
    summary="Create a project",
    response_model=ProjectOut,
    openapi_extra=_json(ProjectIn),
    responses=problems(
        BadRequest, *BODY_REFUSALS, ProjectAlreadyExists, ProjectBeingDeleted, RequestInProgress, IdempotencyKeyReused
    ),
)
def post_project(
    caller: AdminDep, session: SessionDep, once: IdempotentCreateDep, body: BodyDep, raw: JsonDep
) -> Response:
    """Create a project. Requires the scope `admin`, like every route under `/projects`. A new project has no key:
    create one with `POST /keys`."""
    wanted = parsed(ProjectIn, raw)

    def make() -> Created:
        project = ProjectService(session).create(**wanted.model_dump())
        return Created(f"/projects/{project.id}", ProjectOut.of(project))

    return once.answer(make, body)


@router.get("", summary="List projects", responses=problems(InvalidCursor))
def list_projects(caller: AdminDep, session: SessionDep, page: PageDep) -> Page[ProjectOut]:
    """List all projects, newest first, including those that are being deleted."""
    projects = ProjectService(session)
    found = projects.list(page.limit, page.after)
    going = projects.being_deleted(found)
    return page_of(found, page.limit, lambda project: ProjectOut.of(project, project.id in going))


@router.get("/{id}", summary="Get a project", responses=problems(ProjectNotFound))
def get_project(id: str, caller: AdminDep, session: SessionDep) -> ProjectOut:
    """Get a project by its id or name: its limit, its labels and whether it is being deleted."""
    projects = ProjectService(session)
    project = projects.get_any(id)
    return ProjectOut.of(project, bool(projects.being_deleted([project])))


@router.patch(
    "/{id}",
    summary="Change a project",
    openapi_extra=_json(ProjectChange),
    responses=problems(ProjectNotFound, ProjectBeingDeleted, *BODY_REFUSALS),
)
def change_project(id: str, caller: AdminDep, session: SessionDep, raw: JsonDep) -> ProjectOut:
    """Change how many of the project's jobs run at once, and on which workers. Running jobs continue."""
    wanted = parsed(ProjectChange, raw).model_dump(exclude_unset=True)
    return ProjectOut.of(ProjectService(session).change(id, **wanted))


@router.delete(
    "/{id}",
    status_code=202,
    summary="Delete a project",
    responses=problems(ProjectNotFound, LastProject, OwnProject),
)
def remove_project(id: str, caller: AdminDep, session: SessionDep, response: Response) -> ProjectDeletionOut:
    """Delete a project: revoke its keys at once, cancel its jobs, and erase its rows, stored files, live metrics and
    work folders. This cannot be undone. Poll the response's `Location` until `state` is `finished`: it lists what was
    erased.

    Repeating the request returns the progress while the project exists. A key cannot delete its own project
    (`own_project`).
    """
    deletion = ProjectService(session).request_deletion(id, caller.project_id)
    response.headers["Location"] = f"/projects/{deletion.id}/deletion"
    return ProjectDeletionOut.model_validate(deletion)


@router.get(
    "/{id}/deletion",
    summary="Get a project's deletion",
    responses=problems(ProjectNotFound, ProjectDeletionNotFound),
)
def get_project_deletion(id: str, caller: AdminDep, session: SessionDep) -> ProjectDeletionOut:
    """Get the progress of a deletion, and what was erased. Use the project's id once the project is deleted; its name
    works only until then, because a name can be used again."""
    return ProjectDeletionOut.model_validate(ProjectService(session).get_deletion(id))
