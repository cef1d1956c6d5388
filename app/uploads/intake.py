"""Creates uploads and receives their parts for both APIs."""

from collections.abc import Awaitable, Callable

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from app.db.session import Sessions, transaction
from app.db.tables import Upload, UploadPart
from app.domain.artifact import StoredFile
from app.domain.file_name import clean_filename, is_unsafe_filename
from app.domain.ids import new_id
from app.domain.storage_keys import part_key
from app.errors import FieldError, TooLarge
from app.settings import Settings
from app.uploads.schemas import UploadIn
from app.uploads.service import UploadService
from app.web.bodies.upload_body import entered


def begin(service: UploadService, project_id: str, settings: Settings, wanted: UploadIn) -> Upload:
    if wanted.bytes > settings.max_upload_bytes:
        error = TooLarge(f"The file exceeds the limit of {settings.max_upload_bytes:,} bytes; split it.")
        error.errors = (FieldError("/bytes", error.code, str(error)),)
        raise error
    lasts = wanted.expires_after_seconds
    return service.create(
        project_id,
        wanted.bytes,
        clean_filename(wanted.filename),
        lasts_seconds=settings.upload_ttl_seconds,
        dataset_expires_after_seconds=settings.dataset_ttl_seconds if lasts is None else lasts,
        format=wanted.format,
        columns=wanted.columns,
        unsafe_filename=is_unsafe_filename(wanted.filename),
    )


async def enter_part(
    request: Request, project_id: str, id: str, store: Callable[[str], Awaitable[StoredFile]]
) -> UploadPart:
    """Enter a part whose bytes `store` writes under the key it is given; the part is in the database when this
    returns."""
    sessions, storage, part_id = request.app.state.sessions, request.app.state.storage, new_id("part")
    await run_in_threadpool(_check_capacity, sessions, project_id, id)
    stored = await store(part_key(project_id, id, part_id))

    def add(session: Session) -> UploadPart:
        return UploadService(session).add_part(project_id, id, part_id, stored)

    def find(session: Session) -> object:
        return UploadService(session).find_part(project_id, part_id)

    return await run_in_threadpool(lambda: entered(sessions, storage, stored, add, find, "post_part"))


def _check_capacity(sessions: Sessions, project_id: str, id: str) -> None:
    with transaction(sessions, "check_room") as session:
        UploadService(session).check_capacity(project_id, id)
