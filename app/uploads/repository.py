"""Stores uploads and their parts in the database."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import delete, func, insert, literal, or_, select, update
from sqlalchemy.orm import Session

from app.db.base import select_page
from app.db.tables import DeletedObject, Upload, UploadPart
from app.domain.cursor import Cursor
from app.domain.upload import UploadState
from app.projects.repository import is_being_deleted

LEASE_SECONDS = 60.0
BYTES_PER_SECOND = 20_000_000
"""Gives the slowest expected speed of assembling: the lease grows with the file."""
KEPT = timedelta(hours=24)
"""Sets how long an ended upload is kept, so that a completion whose answer was lost can be repeated."""


class Totals(NamedTuple):
    num_parts: int
    num_bytes: int


class UploadRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, upload: Upload, lasts: timedelta) -> None:
        upload.expires_at = func.clock_timestamp() + lasts
        self.session.add(upload)
        self.session.flush()
        self.session.refresh(upload)

    def find(self, project_id: str, id: str) -> Upload | None:
        return self.session.scalars(_one(project_id, id)).one_or_none()

    def find_locked(self, project_id: str, id: str) -> Upload | None:
        """Find the upload, locked until the transaction ends."""
        query = _one(project_id, id).with_for_update().execution_options(populate_existing=True)
        return self.session.scalars(query).one_or_none()

    def has_expired(self, upload: Upload) -> bool:
        """Return whether it has expired, by the database's clock."""
        return bool(self.session.scalar(select(literal(upload.expires_at) <= func.clock_timestamp())))

    def list(self, project_id: str, limit: int, after: Cursor | None) -> Sequence[Upload]:
        """Return one more than `limit`, newest first."""
        query = select(Upload).where(Upload.project_id == project_id)
        return self.session.scalars(select_page(query, Upload, limit, after)).all()

    def add_part(self, part: UploadPart) -> None:
        self.session.add(part)
        self.session.flush()

    def find_part(self, project_id: str, id: str) -> UploadPart | None:
        query = select(UploadPart).where(UploadPart.project_id == project_id, UploadPart.id == id)
        return self.session.scalars(query).one_or_none()

    def parts(self, upload: Upload) -> Sequence[UploadPart]:
        """Return the parts in the order in which they arrived."""
        query = select(UploadPart).where(*_parts_of(upload)).order_by(UploadPart.created_at, UploadPart.id)
        return self.session.scalars(query).all()

    def totals(self, upload: Upload) -> Totals:
        query = select(func.count(), func.coalesce(func.sum(UploadPart.size), 0)).where(*_parts_of(upload))
        num_parts, num_bytes = self.session.execute(query).one()
        return Totals(num_parts, int(num_bytes))

    def end(self, upload: Upload, state: UploadState) -> None:
        upload.state, upload.ended_at = state, func.clock_timestamp()
        self.session.flush()
        self.session.refresh(upload)

    def delete_parts(self, upload: Upload) -> None:
        """Mark the parts' bytes for deletion by the collector, and delete the parts' rows."""
        dead = select(UploadPart.project_id, UploadPart.storage_key).where(*_parts_of(upload))
        self.session.execute(insert(DeletedObject).from_select(["project_id", "storage_key"], dead))
        self.session.execute(delete(UploadPart).where(*_parts_of(upload)))

    def mark_deleted(self, project_id: str, key: str) -> None:
        self.session.add(DeletedObject(project_id=project_id, storage_key=key))

    def expired(self, limit: int, but: Sequence[str] = ()) -> Sequence[Upload]:
        """Return the expired pending uploads of any project, locked. Those that others have locked are left out."""
        query = (
            select(Upload)
            .where(
                Upload.state == UploadState.pending,
                Upload.expires_at <= func.statement_timestamp(),
                Upload.id.not_in(but),
            )
            .order_by(Upload.expires_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return self.session.scalars(query).all()

    def forget_ended(self) -> None:
        """Delete the rows of uploads that ended a day ago and have no parts left."""
        has_parts = select(UploadPart.id).where(UploadPart.upload_id == Upload.id).exists()
        self.session.execute(delete(Upload).where(Upload.ended_at < func.statement_timestamp() - KEPT, ~has_parts))

    def projects_to_join(self) -> Sequence[str]:
        return self.session.scalars(select(Upload.project_id).where(*_waiting()).distinct()).all()

    def claim(self, worker_id: str, lease_seconds: float) -> Upload | None:
        """Claim the completed upload, of any project, that has waited longest for assembling; lease it to the
        caller."""
        oldest = (
            select(Upload.id)
            .where(*_waiting())
            .order_by(Upload.ended_at)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        lease = func.make_interval(0, 0, 0, 0, 0, 0, lease_seconds + Upload.size / BYTES_PER_SECOND)
        statement = (
            update(Upload)
            .where(Upload.id == oldest)
            .values(joining_until=func.clock_timestamp() + lease, worker_id=worker_id)
            .returning(Upload)
        )
        return self.session.scalars(statement).one_or_none()

    def conclude(self, upload: Upload) -> bool:
        """Record that its parts are assembled, unless another worker was faster."""
        statement = (
            update(Upload)
            .where(Upload.project_id == upload.project_id, Upload.id == upload.id, Upload.joined_at.is_(None))
            .values(joined_at=func.clock_timestamp(), joining_until=None)
            .returning(Upload.id)
        )
        return self.session.scalars(statement).one_or_none() is not None


def _one(project_id: str, id: str) -> Any:
    return select(Upload).where(Upload.project_id == project_id, Upload.id == id)


def _parts_of(upload: Upload) -> tuple[Any, ...]:
    return UploadPart.project_id == upload.project_id, UploadPart.upload_id == upload.id


def _waiting() -> tuple[Any, ...]:
    unleased = or_(Upload.joining_until.is_(None), Upload.joining_until < func.clock_timestamp())
    wanted = ~is_being_deleted(Upload.project_id)
    return Upload.state == UploadState.completed, Upload.joined_at.is_(None), unleased, wanted
