"""API keys in the database. What has expired or is due is so by the database's clock."""

from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, extract, func, or_, select, update
from sqlalchemy.orm import Session

from app.db.project_tables import is_being_deleted
from app.db.tables import ApiKey

NOTE_EVERY = timedelta(minutes=1)


class UsableKey(NamedTuple):
    id: str
    project_id: str
    sha256: str
    scopes: list[str]
    seconds_left: float | None
    is_use_due: bool
    is_project_deleted: bool
    """Its project is being deleted; such a key is no longer in force."""


class KeyRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, key: ApiKey) -> None:
        self.session.add(key)

    def find_usable(self, id: str) -> UsableKey | None:
        """Return the key unless it has expired, or is revoked for another reason than its project's deletion."""
        now = func.clock_timestamp()
        query = select(
            *(ApiKey.id, ApiKey.project_id, ApiKey.sha256, ApiKey.scopes),
            extract("epoch", ApiKey.expires_at - now).label("seconds_left"),
            _is_use_due().label("is_use_due"),
            is_being_deleted(ApiKey.project_id).label("is_project_deleted"),
        ).where(
            ApiKey.id == id,
            or_(ApiKey.revoked_at.is_(None), is_being_deleted(ApiKey.project_id)),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now),
        )
        row = self.session.execute(query).one_or_none()
        return UsableKey(*row) if row else None

    def note_use(self, id: str) -> None:
        """Store that the key is in use, at most once a minute."""
        noted = update(ApiKey).where(ApiKey.id == id, _is_use_due()).values(last_used_at=func.clock_timestamp())
        self.session.execute(noted)


def _is_use_due() -> ColumnElement[bool]:
    return or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.clock_timestamp() - NOTE_EVERY)
