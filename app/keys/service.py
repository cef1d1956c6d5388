"""API keys: `tw_<24 hex digits that name it>_<256 random bits>`; only the SHA-256 of the whole is kept."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from app.db.tables import ApiKey
from app.domain.caller import SCOPES, Caller
from app.domain.identity import new_id
from app.keys.repository import KeyRepository

FORM = re.compile(r"tw_([0-9a-f]{24})_[A-Za-z0-9_-]{43}")
TOUCH_EVERY = timedelta(minutes=1)


class KeyService:
    def __init__(self, session: Session) -> None:
        self.keys = KeyRepository(session)

    def create(self, project_id: str, name: str, scopes: Iterable[str] = SCOPES) -> str:
        """A new key, which nobody can be shown again."""
        id = new_id("key")
        text = f"tw_{id.removeprefix('key-')}_{secrets.token_urlsafe(32)}"
        self.keys.add(ApiKey(id=id, project_id=project_id, name=name, sha256=_digest(text), scopes=sorted(set(scopes))))
        return text

    def find_caller(self, text: str) -> Caller | None:
        form = FORM.fullmatch(text)
        key = self.keys.find_usable(f"key-{form[1]}") if form else None
        if key is None or not hmac.compare_digest(key.sha256, _digest(text)):
            return None
        self.keys.touch(key.id, unless_since=datetime.now(UTC) - TOUCH_EVERY)
        return Caller(key.id, key.project_id, frozenset(key.scopes))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
