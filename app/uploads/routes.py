"""Serves `/uploads`: a large file is sent in parts, each stored once it is answered, and becomes a dataset."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from app.domain.artifact import StoredFile
from app.domain.upload import MAX_PART_BYTES
from app.errors import (
    BadRequest,
    DigestMismatch,
    IdempotencyKeyReused,
    InvalidCursor,
    InvalidDigest,
    InvalidJson,
    InvalidUploadParts,
    RequestInProgress,
    StorageFull,
    TooLarge,
    UnsupportedMediaType,
    UploadNotFound,
    UploadNotPending,
)
from app.uploads.intake import begin, enter_part
from app.uploads.schemas import CompletionIn, PartOut, UploadIn, UploadOut, UploadSummary
from app.uploads.service import UploadService
from app.web.auth import CallerDep
from app.web.bodies.json_body import BodyDep, parsed, read_json
from app.web.bodies.upload_body import BODY, refuse_forms, store_body
from app.web.dependencies import PageDep, SessionDep, SettingsDep, StorageDep
from app.web.idempotency import Created, IdempotentCreateDep
from app.web.page_schema import Page, page_of
from app.web.problems import problems

router = APIRouter(prefix="/uploads", tags=["uploads"])

JsonDep = Annotated[object, Depends(read_json)]


def _json(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)  # the answers' schemas define them as well
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post(
    "",
    status_code=201,
    summary="Create an upload",
    response_model=UploadOut,
    openapi_extra=_json(UploadIn),
    responses=problems(InvalidJson, TooLarge, UnsupportedMediaType, RequestInProgress, IdempotencyKeyReused),
)
def post_upload(
    caller: CallerDep,
    session: SessionDep,
    settings: SettingsDep,
    once: IdempotentCreateDep,
    body: BodyDep,
    raw: JsonDep,
) -> Response:
    """Create an upload for a file of a given size. Then send its parts, and complete it to create a dataset.

    An upload that is not completed within a day (`TUNEWRIGHT_UPLOAD_TTL_SECONDS`) expires.
    """

    def make() -> Created:
        upload = begin(UploadService(session), caller.project_id, settings, parsed(UploadIn, raw))
        return Created(f"/uploads/{upload.id}", UploadOut.with_parts(upload, ()))

    return once.answer(make, body)


@router.get("", summary="List uploads", responses=problems(InvalidCursor))
def list_uploads(caller: CallerDep, session: SessionDep, page: PageDep) -> Page[UploadSummary]:
    """List the project's uploads, newest first: pending ones, and those that ended within a day."""
    uploads = UploadService(session).list(caller.project_id, page.limit, page.after)
    return page_of(uploads, page.limit, UploadSummary.of)


@router.get("/{id}", summary="Get an upload", responses=problems(UploadNotFound))
def get_upload(id: str, caller: CallerDep, session: SessionDep) -> UploadOut:
    """Get an upload's state and its stored parts, each with its SHA-256. Stored parts need not be sent again."""
    service = UploadService(session)
    upload = service.get(caller.project_id, id)
    return UploadOut.with_parts(upload, service.parts(upload))


@router.post(
    "/{id}/parts",
    status_code=201,
    summary="Send a part",
    openapi_extra=BODY,
    responses=problems(
        BadRequest,
        InvalidDigest,
        DigestMismatch,
        UploadNotFound,
        UploadNotPending,
        TooLarge,
        UnsupportedMediaType,
        StorageFull,
    ),
)
async def post_part(id: str, request: Request, caller: CallerDep, storage: StorageDep) -> PartOut:
    """Send a part of the file, up to 64 MiB, as the request body. Parts may be sent in any order and concurrently.

    After the answer 201, no crash loses the part. If an answer is lost, get the upload: if it does not list the part,
    send it again.
    """
    refuse_forms(request)

    async def store(key: str) -> StoredFile:
        return await store_body(request, storage, key, MAX_PART_BYTES, min_bytes=1)

    return PartOut.of(await enter_part(request, caller.project_id, id, store))


@router.post(
    "/{id}/complete",
    summary="Complete an upload",
    response_model=UploadOut,
    openapi_extra=_json(CompletionIn),
    responses=problems(
        UploadNotFound,
        UploadNotPending,
        InvalidUploadParts,
        InvalidJson,
        TooLarge,
        UnsupportedMediaType,
        RequestInProgress,
        IdempotencyKeyReused,
    ),
)
def complete_upload(
    id: str, caller: CallerDep, session: SessionDep, once: IdempotentCreateDep, body: BodyDep, raw: JsonDep
) -> Response:
    """Create a dataset from the parts, in the given order. `Location` names it. It is `uploading` at first, and jobs
    may already use it; a worker assembles the parts and inspects the dataset.

    Repeating the same completion creates nothing new. With an `Idempotency-Key` it gets the first answer again; without
    one, the upload's current state.
    """

    def make() -> Created:
        wanted, service = parsed(CompletionIn, raw), UploadService(session)
        upload = service.complete(caller.project_id, id, wanted.part_ids, wanted.md5)
        return Created(f"/datasets/{upload.dataset_id}", UploadOut.with_parts(upload, service.parts(upload)), 200)

    return once.answer(make, body)


@router.post("/{id}/cancel", summary="Cancel an upload", responses=problems(UploadNotFound, UploadNotPending))
def cancel_upload(id: str, caller: CallerDep, session: SessionDep) -> UploadOut:
    """Cancel a pending upload and delete its parts."""
    return UploadOut.with_parts(UploadService(session).cancel(caller.project_id, id), ())
