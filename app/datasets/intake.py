"""Creates a dataset from bytes that were just stored."""

from typing import NamedTuple

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from app.datasets.service import DatasetService
from app.db.tables import Dataset
from app.domain.artifact import StoredFile
from app.domain.datasets.formats import RecordFormat
from app.web.bodies.upload_body import entered


class ReceivedFile(NamedTuple):
    filename: str
    stored: StoredFile
    unsafe_filename: bool
    """Is true if characters that do not print were removed from the name."""
    columns: dict[str, str] | None = None
    """Maps each field that is read to its name in the file."""


async def enter(
    request: Request,
    project_id: str,
    id: str,
    upload: ReceivedFile,
    expires_after_seconds: float | None,
    format: RecordFormat | None = None,
) -> Dataset:
    """Enter the dataset in a transaction that has ended when this returns; the default lifetime is the server's."""
    state = request.app.state
    lasts = state.settings.dataset_ttl_seconds if expires_after_seconds is None else expires_after_seconds

    def add(session: Session) -> Dataset:
        return DatasetService(session).add(
            project_id,
            id,
            upload.filename,
            upload.stored,
            lasts,
            format,
            columns=upload.columns,
            unsafe_filename=upload.unsafe_filename,
        )

    def find(session: Session) -> object:
        return DatasetService(session).find(project_id, id)

    return await run_in_threadpool(
        lambda: entered(state.sessions, state.storage, upload.stored, add, find, "upload_dataset")
    )
