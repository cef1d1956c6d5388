"""Serves `/v1/uploads`: uploads of a large file in parts."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from app.domain.artifact import StoredFile
from app.domain.upload import MAX_PART_BYTES
from app.errors import (
    DigestMismatch,
    InvalidDigest,
    InvalidJson,
    InvalidMultipart,
    InvalidUploadParts,
    StorageFull,
    TooLarge,
    UnsupportedMediaType,
    UploadNotFound,
    UploadNotPending,
)
from app.openai.base_schema import json_of
from app.openai.envelope import refusals
from app.openai.files.repository import FileRepository
from app.openai.uploads.schemas import CompleteUpload, CreateUpload, UploadObject, UploadPartObject
from app.uploads import schemas as native
from app.uploads.intake import begin, enter_part
from app.uploads.service import UploadService
from app.web.auth import CallerDep
from app.web.bodies.json_body import parsed, read_json
from app.web.bodies.multipart import receive
from app.web.dependencies import SessionDep, SettingsDep, StorageDep

router = APIRouter(prefix="/uploads", tags=["uploads"])

JsonDep = Annotated[object, Depends(read_json)]
PART: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


@router.post(
    "",
    summary="Create an upload",
    openapi_extra=json_of(CreateUpload),
    responses=refusals(InvalidJson, TooLarge, UnsupportedMediaType),
)
def create_upload(caller: CallerDep, session: SessionDep, settings: SettingsDep, raw: JsonDep) -> UploadObject:
    """Create an upload with the size of the file, then send its parts and complete it."""
    wanted = parsed(CreateUpload, raw)
    asked = native.UploadIn(
        bytes=wanted.bytes,
        filename=wanted.filename,
        expires_after_seconds=wanted.expires_after.seconds if wanted.expires_after else None,
        columns=wanted.columns,
    )
    return UploadObject.of(begin(UploadService(session), caller.project_id, settings, asked))


@router.post(
    "/{upload_id}/parts",
    summary="Send a part",
    openapi_extra=PART,
    responses=refusals(
        InvalidMultipart,
        InvalidDigest,
        DigestMismatch,
        UploadNotFound,
        UploadNotPending,
        TooLarge,
        UnsupportedMediaType,
        StorageFull,
    ),
)
async def create_part(upload_id: str, request: Request, caller: CallerDep, storage: StorageDep) -> UploadPartObject:
    """Add a part of the file, up to 64 MiB. Parts can be sent in any order and concurrently. A part is stored durably
    before the response is sent."""

    async def store(key: str) -> StoredFile:
        return (await receive(request, storage, key, MAX_PART_BYTES, "data")).stored

    return UploadPartObject.of(await enter_part(request, caller.project_id, upload_id, store))


@router.post(
    "/{upload_id}/complete",
    summary="Complete an upload",
    openapi_extra=json_of(CompleteUpload),
    responses=refusals(
        UploadNotFound, UploadNotPending, InvalidUploadParts, InvalidJson, TooLarge, UnsupportedMediaType
    ),
)
def complete_upload(upload_id: str, caller: CallerDep, session: SessionDep, raw: JsonDep) -> UploadObject:
    """Assemble the parts into a file, in the given order. The file exists immediately, and jobs can use it. Repeating
    the request creates nothing new."""
    wanted = parsed(CompleteUpload, raw)
    upload = UploadService(session).complete(caller.project_id, upload_id, wanted.part_ids, wanted.md5)
    assert upload.dataset_id is not None
    return UploadObject.of(upload, FileRepository(session).find(caller.project_id, upload.dataset_id))


@router.post("/{upload_id}/cancel", summary="Cancel an upload", responses=refusals(UploadNotFound, UploadNotPending))
def cancel_upload(upload_id: str, caller: CallerDep, session: SessionDep) -> UploadObject:
    """Cancel a pending upload and delete its parts."""
    return UploadObject.of(UploadService(session).cancel(caller.project_id, upload_id))
