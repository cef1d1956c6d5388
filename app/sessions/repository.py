"""Stores browsers' sessions in the database. Expiry is by the database's clock."""

from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import and_, delete, extract, func, or_, select
from sqlalchemy.orm import Session

from app.db.tables import ApiKey, BrowserSession, Installation, Project


class FoundSession(NamedTuple):
    key_id: str
    sha256: str
    seconds_left: float


class ShownSession(NamedTuple):
    project_id: str
    project: str
    """Gives the project's name."""
    key_id: str
    key_name: str
    scopes: list[str]
    expires_at: datetime | None
    """Is the earlier expiry of the session and its key. Null for a key that never expires, without a session."""


class SessionRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def lock_valid_key(self, id: str) -> ApiKey | None:
        """Lock the key against other changes of its sessions. Return None if it is no longer valid."""
        # The project is locked first, as its deletion does; the new row locks it too.
        project = select(Project.id).join(ApiKey, ApiKey.project_id == Project.id).where(ApiKey.id == id)
        self.session.execute(project.with_for_update(of=Project, read=True, key_share=True))
        query = select(ApiKey).where(
            ApiKey.id == id,
            ApiKey.revoked_at.is_(None),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.clock_timestamp()),
        )
        return self.session.scalars(query.with_for_update(key_share=True)).one_or_none()

    def add(self, session: BrowserSession, life: timedelta, key_expires_at: datetime | None) -> None:
        """Store the session. It ends with its life or with its key, whichever is earlier."""
        now = func.statement_timestamp()
        session.created_at = now
        session.expires_at = now + life if key_expires_at is None else func.least(now + life, key_expires_at)
        self.session.add(session)
        self.session.flush()
        self.session.refresh(session)

    def delete_oldest(self, key_id: str, most: int) -> None:
        """Delete the oldest sessions of a key that has more than `most`."""
        newest_first = BrowserSession.created_at.desc(), BrowserSession.id.desc()
        surplus = select(BrowserSession.id).where(BrowserSession.key_id == key_id).order_by(*newest_first).offset(most)
        self.session.execute(delete(BrowserSession).where(BrowserSession.id.in_(surplus)))

    def find(self, id: str) -> FoundSession | None:
        """Find the session unless it has expired. Its key may have ended earlier."""
        now = func.clock_timestamp()
        seconds_left = extract("epoch", BrowserSession.expires_at - now)
        query = select(BrowserSession.key_id, BrowserSession.sha256, seconds_left)
        row = self.session.execute(query.where(BrowserSession.id == id, BrowserSession.expires_at > now)).one_or_none()
        return FoundSession(row[0], row[1], float(row[2])) if row else None

    def show(self, key_id: str, id: str | None) -> ShownSession | None:
        """Describe the key, and its session if there is one."""
        own = and_(BrowserSession.key_id == ApiKey.id, BrowserSession.id == (id or ""))
        query = (
            select(
                *(ApiKey.project_id, Project.name, ApiKey.id, ApiKey.name, ApiKey.scopes),
                func.least(ApiKey.expires_at, BrowserSession.expires_at),
            )
            .join(Project, Project.id == ApiKey.project_id)
            .outerjoin(BrowserSession, own)
            .where(ApiKey.id == key_id)
        )
        row = self.session.execute(query).one_or_none()
        return ShownSession(*row) if row else None

    def delete(self, id: str, sha256: str) -> None:
        self.session.execute(delete(BrowserSession).where(BrowserSession.id == id, BrowserSession.sha256 == sha256))

    def get_server_id(self) -> str:
        return self.session.scalars(select(Installation.id)).one()


def forget_sessions(session: Session) -> None:
    """Delete the sessions that have expired."""
    session.execute(delete(BrowserSession).where(BrowserSession.expires_at <= func.statement_timestamp()))
