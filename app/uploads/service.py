"""Implements uploads by parts, and the assembling of their parts into a dataset."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.orm import Session

from app.datasets.service import DatasetService
from app.db.session import Sessions, transaction
from app.db.tables import Upload, UploadPart
from app.domain.artifact import StoredFile
from app.domain.cursor import Cursor
from app.domain.datasets.formats import RecordFormat
from app.domain.ids import is_id, new_id
from app.domain.storage_keys import dataset_key
from app.domain.upload import MAX_PART_BYTES, MAX_PARTS, UploadState
from app.errors import InvalidUploadParts, TooLarge, UploadNotFound, UploadNotPending
from app.outbox import enqueue_wakeup
from app.set_aside import STRICT, SetAside
from app.storage import Joined, Storage
from app.uploads.repository import LEASE_SECONDS, UploadRepository


class UploadService:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.uploads = UploadRepository(session)

    def create(
        self,
        project_id: str,
        size: int,
        filename: str,
        *,
        lasts_seconds: float,
        dataset_expires_after_seconds: float | None = None,
        format: RecordFormat | None = None,
        columns: dict[str, str] | None = None,
        unsafe_filename: bool = False,
    ) -> Upload:
        """Create an upload. `size` is in bytes; the caller has sanitized `filename` and checked the maximum size."""
        upload = Upload(
            id=new_id("upload"),
            project_id=project_id,
            filename=filename,
            size=size,
            state=UploadState.pending,
            dataset_expires_after_seconds=dataset_expires_after_seconds,
            format=format,
            columns=columns,
            unsafe_filename=unsafe_filename,
        )
        self.uploads.add(upload, timedelta(seconds=lasts_seconds))
        return upload

    def get(self, project_id: str, id: str) -> Upload:
        upload = self.uploads.find(project_id, id) if is_id(id, "upload") else None
        if upload is None:
            raise UploadNotFound(id)
        return upload

    def list(self, project_id: str, limit: int, after: Cursor | None) -> Sequence[Upload]:
        return self.uploads.list(project_id, limit, after)

    def parts(self, upload: Upload) -> Sequence[UploadPart]:
        return self.uploads.parts(upload)

    def check_capacity(self, project_id: str, id: str) -> None:
        """Check whether another part would be accepted."""
        upload = self.get(project_id, id)
        self._check_pending(upload)
        totals = self.uploads.totals(upload)
        # A part that is sent again after a lost answer counts twice; endless sending must stop.
        if totals.num_parts >= MAX_PARTS or totals.num_bytes > 2 * upload.size + MAX_PART_BYTES:
            stored = f"{totals.num_parts:,} parts with {totals.num_bytes:,} bytes"
            raise TooLarge(f"Upload {id} already has {stored}; complete it.")

    def add_part(self, project_id: str, id: str, part_id: str, stored: StoredFile) -> UploadPart:
        """Enter a part whose bytes are in storage."""
        upload = self._pending(project_id, id)
        part = UploadPart(
            id=part_id,
            project_id=project_id,
            upload_id=upload.id,
            storage_key=stored.key,
            size=stored.size,
            sha256=stored.sha256,
        )
        self.uploads.add_part(part)
        return part

    def find_part(self, project_id: str, part_id: str) -> UploadPart | None:
        return self.uploads.find_part(project_id, part_id)

    def complete(self, project_id: str, id: str, part_ids: Sequence[str], md5: str | None = None) -> Upload:
        """Make a dataset of these parts, in this order; its bytes follow (see `join_next`). Repeating the same
        completion changes nothing."""
        upload = self._locked(project_id, id)
        md5 = md5.lower() if md5 else None
        if upload.state == UploadState.completed and (upload.part_ids, upload.md5) == ([*part_ids], md5):
            return upload
        self._check_pending(upload)
        self._check_parts(upload, part_ids)
        upload.part_ids, upload.md5, upload.dataset_id = [*part_ids], md5, new_id("file")
        self.uploads.end(upload, UploadState.completed)
        DatasetService(self.session).add_uploading(
            project_id,
            upload.dataset_id,
            upload.filename,
            dataset_key(project_id, upload.dataset_id),
            upload.size,
            upload.dataset_expires_after_seconds,
            RecordFormat(upload.format) if upload.format else None,
            columns=upload.columns,
            unsafe_filename=upload.unsafe_filename,
        )
        enqueue_wakeup(self.session, project_id, "light")
        return upload

    def _check_parts(self, upload: Upload, part_ids: Sequence[str]) -> None:
        sizes = {part.id: part.size for part in self.uploads.parts(upload)}
        if unknown := [id for id in part_ids if id not in sizes]:
            named = ", ".join(f"{id!r:.60}" for id in unknown[:5])
            raise InvalidUploadParts(
                f"Upload {upload.id} has no part {named}; GET /uploads/{upload.id} lists its parts."
            )
        size = sum(sizes[id] for id in part_ids)
        if size != upload.size:
            sizes_differ = f"The parts have {size:,} bytes in total, but the upload was created for {upload.size:,}"
            raise InvalidUploadParts(f"{sizes_differ}; list each part of the file once, in the file's order.")

    def cancel(self, project_id: str, id: str) -> Upload:
        """Cancel a pending upload. A cancelled one stays cancelled."""
        upload = self._locked(project_id, id)
        if upload.state != UploadState.cancelled:
            self._check_pending(upload)
            self._end(upload, UploadState.cancelled)
        return upload

    def expire(self, limit: int, aside: SetAside = STRICT) -> Sequence[str]:
        """Expire the pending uploads of any project whose time has passed, and return their ids. An upload on which
        this fails is set aside."""
        expired = []
        for upload in self.uploads.expired(limit, aside.ids("uploads")):
            with aside.guard("uploads", upload.id, self.session):
                self._end(upload, UploadState.expired)
                expired.append(upload.id)
        return expired

    def forget_ended(self) -> None:
        """Delete the rows of uploads that ended a day ago and have no parts left."""
        self.uploads.forget_ended()

    def _end(self, upload: Upload, state: UploadState) -> None:
        self.uploads.delete_parts(upload)
        self.uploads.end(upload, state)

    def _pending(self, project_id: str, id: str) -> Upload:
        upload = self._locked(project_id, id)
        self._check_pending(upload)
        return upload

    def _locked(self, project_id: str, id: str) -> Upload:
        upload = self.uploads.find_locked(project_id, id) if is_id(id, "upload") else None
        if upload is None:
            raise UploadNotFound(id)
        return upload

    def _check_pending(self, upload: Upload) -> None:
        if upload.state != UploadState.pending:
            raise UploadNotPending(upload.id, upload.state)
        if self.uploads.has_expired(upload):
            raise UploadNotPending(upload.id, UploadState.expired)

    def projects_with_work(self) -> Sequence[str]:
        """Return the ids of the projects with completed uploads that wait for assembling."""
        return self.uploads.projects_to_join()

    def conclude(self, upload: Upload, joined: Joined | None) -> None:
        """Give the dataset its bytes, or the reason why it has none, and delete the parts."""
        assert upload.dataset_id is not None
        if not self.uploads.conclude(upload):
            return
        self.uploads.delete_parts(upload)
        datasets = DatasetService(self.session)
        if joined and not datasets.record_arrival(upload.project_id, upload.dataset_id, joined.stored):
            self.uploads.mark_deleted(upload.project_id, joined.stored.key)  # deleted during the assembling
        elif joined is None:
            message = "A part of the file is missing from storage; upload the file again."
            datasets.refuse(upload.project_id, upload.dataset_id, "file_missing", message)
        elif upload.md5 not in (None, joined.md5):
            message = f"The uploaded file has the MD5 {joined.md5}, not {upload.md5}; upload it again."
            datasets.refuse(upload.project_id, upload.dataset_id, "md5_mismatch", message)


def join_next(sessions: Sessions, storage: Storage, worker_id: str, lease_seconds: float = LEASE_SECONDS) -> bool:
    """Join the parts of one completed upload, of any project. Return whether there was one.

    Bytes are copied outside any transaction. After a crash the lease expires and the parts are still there; the next
    worker writes the same object again.
    """
    with transaction(sessions, "claim_join") as session:
        uploads = UploadRepository(session)
        upload = uploads.claim(worker_id, lease_seconds)
        parts = uploads.parts(upload) if upload else ()
    if upload is None:
        return False
    assert upload.dataset_id is not None
    keys = {part.id: part.storage_key for part in parts}
    try:
        key = dataset_key(upload.project_id, upload.dataset_id)
        chosen = [keys[id] for id in upload.part_ids or ()]
        joined = storage.join(key, chosen, upload.filename, with_md5=upload.md5 is not None)
    except FileNotFoundError:
        joined = None
    with transaction(sessions, "conclude_join") as session:
        UploadService(session).conclude(upload, joined)
    return True
