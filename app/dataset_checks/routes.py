"""`/datasets/{id}/previews` and `/datasets/{id}/overlaps`: questions that a light worker answers."""

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
    """Some rows as text and tokens, each with whether it carries loss, and what the whole file comes to: by the code
    that trains, without a GPU. Poll the answer's `Location` until it is `ready` or `failed`.

    A bad spec is answered as `POST /jobs` answers it. A dataset under inspection makes the preview wait. The newest
    twenty of a dataset are kept; they go with it."""

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
    """The dataset's previews, newest first, without their rows."""
    found = DatasetCheckService(session).list(
        caller.project_id, id, DatasetCheckKind.preview, page.limit, page.after, states
    )
    return page_of(found, page.limit, PreviewSummary.of)


@router.get("/previews/{preview_id}", summary="Get a preview", responses=problems(DatasetNotFound, PreviewNotFound))
def get_preview(id: str, preview_id: str, caller: CallerDep, session: SessionDep) -> PreviewOut:
    """Its state; once it is `ready`, the rows and the totals."""
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
    """Rows of a validation dataset that stand in this one too, to the letter or but for white space and capitals. Poll
    the answer's `Location` until it is `ready` or `failed`.

    A dataset under inspection makes it wait. The newest twenty of a dataset are kept; they go with either dataset."""

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
    """The dataset's overlaps, newest first, without their pairs."""
    found = DatasetCheckService(session).list(
        caller.project_id, id, DatasetCheckKind.overlap, page.limit, page.after, states
    )
    return page_of(found, page.limit, OverlapSummary.of)


@router.get(
    "/overlaps/{overlap_id}", summary="Get an overlap check", responses=problems(DatasetNotFound, OverlapNotFound)
)
def get_overlap(id: str, overlap_id: str, caller: CallerDep, session: SessionDep) -> OverlapOut:
    """Its state; once it is `ready`, how many rows are the same and which."""
    return OverlapOut.of(DatasetCheckService(session).get(caller.project_id, id, DatasetCheckKind.overlap, overlap_id))
