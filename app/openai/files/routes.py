"""Serves `/v1/files`: the datasets that jobs train on, and the outputs of jobs."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.datasets.intake import ReceivedFile, enter
from app.datasets.service import DatasetService
from app.domain.datasets.columns import TARGETS
from app.domain.datasets.report import DatasetState
from app.domain.ids import new_id
from app.domain.storage_keys import dataset_key
from app.errors import (
    DatasetInUse,
    DatasetUploading,
    DigestMismatch,
    FieldError,
    FileBelongsToJob,
    FileNotFound,
    InvalidCursor,
    InvalidDigest,
    InvalidMultipart,
    RangeNotSatisfiable,
    StorageFull,
    TooLarge,
    UnsupportedMediaType,
)
from app.openai.envelope import refusals
from app.openai.files.repository import File, FileRepository
from app.openai.files.schemas import FileDeleted, FileIn, FileList, FileObject
from app.web.auth import CallerDep
from app.web.bodies.json_body import parsed
from app.web.bodies.multipart import receive
from app.web.dependencies import SessionDep, SettingsDep, StorageDep
from app.web.download import CONDITIONS, TAR, bytes_as, download

router = APIRouter(prefix="/files", tags=["files"])

MAX_LIMIT = 10_000
ROWS = "application/jsonl"
MEDIA_TYPES = {"csv": "text/csv", "tar": TAR}
ANCHOR, SECONDS = "expires_after[anchor]", "expires_after[seconds]"
COLUMNS = {f"columns[{target}]": target for target in sorted(TARGETS)}
"""Names the form fields in which OpenAI's client sends `extra_body={"columns": {"prompt": "input"}}`."""
COLUMN = "The file's key that is read as this field."
FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "dependentRequired": {ANCHOR: [SECONDS], SECONDS: [ANCHOR]},
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "The rows, as JSON Lines."},
                        "purpose": {"type": "string", "enum": ["fine-tune"]},
                        ANCHOR: {"type": "string", "enum": ["created_at"]},
                        SECONDS: {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
                        **{name: {"type": "string", "description": COLUMN} for name in COLUMNS},
                    },
                }
            }
        },
    }
}


@router.post(
    "",
    summary="Upload a file",
    openapi_extra=FORM,
    responses=refusals(InvalidMultipart, InvalidDigest, DigestMismatch, TooLarge, UnsupportedMediaType, StorageFull),
)
async def create_file(request: Request, caller: CallerDep, storage: StorageDep, settings: SettingsDep) -> FileObject:
    """Upload a file to train on. It is stored durably before the response is sent. A worker then inspects it: its
    status becomes `processed`, or `error` with the reason. A job can use it immediately, and waits for the
    inspection."""
    id = new_id("file")
    key, others = dataset_key(caller.project_id, id), ("purpose", ANCHOR, SECONDS, *COLUMNS)
    form = await receive(request, storage, key, settings.max_upload_bytes, others=others, check=_read)
    wanted = _read(form.values)
    lasts = wanted.expires_after.seconds if wanted.expires_after else None
    upload = ReceivedFile(form.filename, form.stored, form.unsafe_filename, wanted.columns)
    dataset = await enter(request, caller.project_id, id, upload, lasts)
    return FileObject.of(File.fresh(dataset))


def _read(values: dict[str, str]) -> FileIn:
    return parsed(FileIn, _nest_fields(values))


def _nest_fields(values: dict[str, str]) -> dict[str, Any]:
    """Return the form's fields as the objects that they represent."""
    nested = {name: values[field] for name, field in (("anchor", ANCHOR), ("seconds", SECONDS)) if field in values}
    purpose = {"purpose": values["purpose"]} if "purpose" in values else {}
    columns = {target: values[field] for field, target in COLUMNS.items() if field in values}
    return purpose | ({"expires_after": nested} if nested else {}) | ({"columns": columns} if columns else {})


@router.get("", summary="List files", responses=refusals(InvalidCursor))
def list_files(
    caller: CallerDep,
    session: SessionDep,
    purpose: Annotated[str | None, Query(max_length=100, description="Only files of this purpose.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Files per page.")] = MAX_LIMIT,
    order: Annotated[
        Literal["asc", "desc"], Query(description="By creation time; `desc` lists the newest first.")
    ] = "desc",
    after: Annotated[str | None, Query(max_length=100, description="`last_id` of the previous page.")] = None,
) -> FileList:
    """List datasets (`fine-tune`), and the adapter archives and metrics of jobs (`fine-tune-results`)."""
    files = FileRepository(session)
    last = files.find(caller.project_id, after) if after is not None else None
    if after is not None and last is None:
        error = InvalidCursor()
        error.errors = (FieldError("/after", error.code, "No file has this id; request the first page again."),)
        raise error
    found = files.list(caller.project_id, purpose, limit, last, ascending=order == "asc")
    return FileList.of(found, limit)


@router.get("/{file_id}", summary="Retrieve a file", responses=refusals(FileNotFound))
def retrieve_file(file_id: str, caller: CallerDep, session: SessionDep) -> FileObject:
    """Get a file's size, purpose and inspection status."""
    return FileObject.of(_get(session, caller.project_id, file_id))


@router.delete("/{file_id}", summary="Delete a file", responses=refusals(FileNotFound, DatasetInUse, FileBelongsToJob))
def delete_file(file_id: str, caller: CallerDep, session: SessionDep) -> FileDeleted:
    """Delete a dataset that no unfinished job uses. Results are deleted with their model or their job."""
    file = _get(session, caller.project_id, file_id)
    if file.job_id is not None:
        raise FileBelongsToJob(file.id, file.job_id)
    DatasetService(session).delete(caller.project_id, file.id)
    return FileDeleted(id=file.id)


@router.head("/{file_id}/content", include_in_schema=False)
@router.get(
    "/{file_id}/content",
    summary="Download a file",
    response_class=Response,
    openapi_extra=CONDITIONS,
    responses=bytes_as(ROWS, *MEDIA_TYPES.values()) | refusals(FileNotFound, DatasetUploading, RangeNotSatisfiable),
)
def download_file(
    file_id: str, request: Request, caller: CallerDep, session: SessionDep, storage: StorageDep
) -> Response:
    """Download the content, for a dataset exactly as it was uploaded. Supports `Range`."""
    file = _get(session, caller.project_id, file_id)
    if file.state is DatasetState.uploading:
        raise DatasetUploading(file.id)
    ending = file.filename.rpartition(".")[2]
    return download(
        request,
        storage,
        key=file.storage_key,
        size=file.bytes,
        sha256=file.sha256,
        filename=file.filename,
        at=file.created_at,
        media_type=ROWS if file.job_id is None else MEDIA_TYPES[ending],
    )


def _get(session: Session, project_id: str, id: str) -> File:
    file = FileRepository(session).find(project_id, id)
    if file is None:
        raise FileNotFound(id)
    return file
