"""Serves `/datasets/{id}/previews` and `/datasets/{id}/overlaps`: dataset checks that a light worker runs."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from app.dataset_checks.schemas import (
    OVERLAP_EXAMPLE,
    PREVIEW_EXAMPLE,
    OverlapOut,
    OverlapSummary,
    PreviewOut,
    PreviewSummary,
)
from app.dataset_checks.service import DatasetCheckService
from app.domain.dataset_checks.overlap import OverlapSpec
from app.domain.dataset_checks.state import DatasetCheckKind, DatasetCheckState
from app.errors import (
    DatasetNotFound,
    IdempotencyKeyReused,
    InvalidCursor,
    InvalidJson,
    InvalidSpec,
    OverlapNotFound,
    PreviewNotFound,
    RequestInProgress,
    TooLarge,
    UnsupportedMediaType,
)
from app.web.auth import CallerDep
from app.web.bodies.json_body import BodyDep, read_json
from app.web.dependencies import PageDep, SessionDep
from app.web.idempotency import Created, IdempotentCreateDep
from app.web.page_schema import Page, page_of
from app.web.parameters import states_of
from app.web.problems import problems

router = APIRouter(prefix="/datasets/{id}", tags=["datasets"])

JsonDep = Annotated[object, Depends(read_json)]
REFUSALS = problems(
    DatasetNotFound, InvalidSpec, InvalidJson, TooLarge, UnsupportedMediaType, RequestInProgress, IdempotencyKeyReused
)


def _json(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/previews",
    status_code=202,
    summary="Create a preview",
    response_model=PreviewOut,
    openapi_extra=_json({"$ref": "#/components/schemas/PreviewSpec"}, PREVIEW_EXAMPLE),
    responses=REFUSALS,
)
def post_preview(
    id: str, caller: CallerDep, session: SessionDep, once: IdempotentCreateDep, body: BodyDep, raw: JsonDep
) -> Response:
    """Create a preview: some rows as text and tokens, with the tokens that carry loss, and totals of the whole file. It
    is computed by the training code, without a GPU. Poll the answer's `Location` until the preview is `ready` or
    `failed`.

    An invalid spec gets the same answer as from `POST /jobs`. If the dataset is being inspected, the preview waits. The
    newest twenty previews of a dataset are kept; they are deleted with it.
    """

    def make() -> Created:
        check = DatasetCheckService(session).preview(caller.project_id, id, raw)
        return Created(f"/datasets/{id}/previews/{check.id}", PreviewOut.of(check), 202)

    return once.answer(make, body)


@router.get("/previews", summary="List previews", responses=problems(DatasetNotFound, InvalidCursor))
def list_previews(
    id: str,
    caller: CallerDep,
    session: SessionDep,
    page: PageDep,
    states: Annotated[tuple[DatasetCheckState, ...], Depends(states_of(DatasetCheckState, "previews"))],
) -> Page[PreviewSummary]:
    """List the dataset's previews, newest first, without their rows."""
    found = DatasetCheckService(session).list(
        caller.project_id, id, DatasetCheckKind.preview, page.limit, page.after, states
    )
    return page_of(found, page.limit, PreviewSummary.of)


@router.get("/previews/{preview_id}", summary="Get a preview", responses=problems(DatasetNotFound, PreviewNotFound))
def get_preview(id: str, preview_id: str, caller: CallerDep, session: SessionDep) -> PreviewOut:
    """Get a preview's state and, once it is `ready`, its rows and totals."""
    return PreviewOut.of(DatasetCheckService(session).get(caller.project_id, id, DatasetCheckKind.preview, preview_id))


@router.post(
    "/overlaps",
    status_code=202,
    summary="Create an overlap check",
    response_model=OverlapOut,
    openapi_extra=_json(OverlapSpec.model_json_schema(), OVERLAP_EXAMPLE),
    responses=REFUSALS,
)
def post_overlap(
    id: str, caller: CallerDep, session: SessionDep, once: IdempotentCreateDep, body: BodyDep, raw: JsonDep
) -> Response:
    """Create an overlap check, which finds the rows of a validation dataset that are also in this one, exactly or
    ignoring white space and case. Poll the answer's `Location` until the check is `ready` or `failed`.

    If either dataset is being inspected, the check waits. The newest twenty checks of a dataset are kept; they are
    deleted with either dataset.
    """

    def make() -> Created:
        check = DatasetCheckService(session).overlap(caller.project_id, id, raw)
        return Created(f"/datasets/{id}/overlaps/{check.id}", OverlapOut.of(check), 202)

    return once.answer(make, body)


@router.get("/overlaps", summary="List overlap checks", responses=problems(DatasetNotFound, InvalidCursor))
def list_overlaps(
    id: str,
    caller: CallerDep,
    session: SessionDep,
    page: PageDep,
    states: Annotated[tuple[DatasetCheckState, ...], Depends(states_of(DatasetCheckState, "overlaps"))],
) -> Page[OverlapSummary]:
    """List the dataset's overlap checks, newest first, without their pairs."""
    found = DatasetCheckService(session).list(
        caller.project_id, id, DatasetCheckKind.overlap, page.limit, page.after, states
    )
    return page_of(found, page.limit, OverlapSummary.of)


@router.get(
    "/overlaps/{overlap_id}", summary="Get an overlap check", responses=problems(DatasetNotFound, OverlapNotFound)
)
def get_overlap(id: str, overlap_id: str, caller: CallerDep, session: SessionDep) -> OverlapOut:
    """Get an overlap check's state and, once it is `ready`, the number of equal rows and their list."""
    return OverlapOut.of(DatasetCheckService(session).get(caller.project_id, id, DatasetCheckKind.overlap, overlap_id))
