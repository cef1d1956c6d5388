"""Stores API keys in the database. Expiry and due times are by the database's clock."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, case, extract, func, literal, or_, select, update
from sqlalchemy.orm import Session

from app.db.base import select_page
from app.db.tables import ApiKey, Project
from app.domain.cursor import Cursor
from app.projects.repository import is_being_deleted

NOTE_EVERY = timedelta(minutes=1)


class UsableKey(NamedTuple):
    id: str
    project_id: str
    sha256: str
    scopes: list[str]
    seconds_left: float | None
    is_use_due: bool
    is_project_deleted: bool
    """Is true if its project is being deleted; such a key is no longer valid."""


class ShownKey(NamedTuple):
    key: ApiKey
    project: str
    """Gives the project's name."""
    state: str
    """Is active, expired or revoked."""

    @property
    def id(self) -> str:
        return self.key.id

    @property
    def created_at(self) -> datetime:
        return self.key.created_at


class KeyRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, key: ApiKey, life: timedelta | None) -> None:
        if life is not None:
            key.expires_at = func.clock_timestamp() + life
        self.session.add(key)

    def find(self, id: str, *, lock: bool = False) -> ShownKey | None:
        """Find the key with its present values in the database, not with values read earlier."""
        query = _select_shown_keys().where(ApiKey.id == id).execution_options(populate_existing=True)
        row = self.session.execute(query.with_for_update(of=ApiKey) if lock else query).one_or_none()
        return ShownKey(*row) if row else None

    def list(self, limit: int | None, after: Cursor | None, project: str | None) -> Sequence[ShownKey]:
        """Return one more than `limit`, newest first."""
        query = _select_shown_keys()
        if project is not None:
            query = query.where(or_(Project.id == project, Project.name == project))
        rows = self.session.execute(select_page(query, ApiKey, limit, after))
        return [ShownKey(*row) for row in rows]

    def revoke(self, id: str) -> None:
        """Revoke the key; a revoked one stays as it is."""
        valid = ApiKey.id == id, ApiKey.revoked_at.is_(None)
        self.session.execute(update(ApiKey).where(*valid).values(revoked_at=func.clock_timestamp()))

    def replace(self, id: str, by: str, overlap: timedelta) -> None:
        """Replace the key. It expires after `overlap`, unless it expires sooner."""
        ending = func.least(ApiKey.expires_at, func.clock_timestamp() + overlap)
        self.session.execute(update(ApiKey).where(ApiKey.id == id).values(replaced_by=by, expires_at=ending))

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
        """Record that the key is in use, at most once a minute."""
        noted = update(ApiKey).where(ApiKey.id == id, _is_use_due()).values(last_used_at=func.clock_timestamp())
        self.session.execute(noted)


def _select_shown_keys() -> Select[Any]:
    """Return a query for rows of ShownKey."""
    is_expired = ApiKey.expires_at <= func.clock_timestamp()
    state = case((ApiKey.revoked_at.is_not(None), "revoked"), (is_expired, "expired"), else_=literal("active"))
    return select(ApiKey, Project.name, state).join(Project, Project.id == ApiKey.project_id)


def _is_use_due() -> ColumnElement[bool]:
    return or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.clock_timestamp() - NOTE_EVERY)
