"""API keys in the database."""

from datetime import datetime

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.db.tables import ApiKey


class KeyRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, key: ApiKey) -> None:
        self.session.add(key)

    def find_usable(self, id: str) -> ApiKey | None:
        """The key unless it is revoked or has expired, by the database's clock."""
        query = select(ApiKey).where(
            ApiKey.id == id,
            ApiKey.revoked_at.is_(None),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()),
        )
        return self.session.scalars(query).one_or_none()

    def touch(self, id: str, unless_since: datetime) -> None:
        stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < unless_since)
        self.session.execute(update(ApiKey).where(ApiKey.id == id, stale).values(last_used_at=func.now()))
