"""API keys: `tw_<24 hex digits that name it>_<256 random bits>`; only the SHA-256 of the whole is kept."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable

from sqlalchemy.orm import Session

from app.db.tables import ApiKey
from app.domain.caller import SCOPES, Caller, RecognizedKey
from app.domain.identity import new_id
from app.errors import Unauthorized
from app.keys.repository import KeyRepository

FORM = re.compile(r"tw_([0-9a-f]{24})_[A-Za-z0-9_-]{43}")


class KeyService:
    def __init__(self, session: Session) -> None:
        self.keys = KeyRepository(session)

    def create(self, project_id: str, name: str, scopes: Iterable[str] = SCOPES) -> str:
        """A new key, which nobody can be shown again."""
        id = new_id("key")
        text = f"tw_{id.removeprefix('key-')}_{secrets.token_urlsafe(32)}"
        self.keys.add(ApiKey(id=id, project_id=project_id, name=name, sha256=_digest(text), scopes=sorted(set(scopes))))
        return text

    def recognize(self, text: str) -> RecognizedKey | None:
        """Return what is known of a key that is in force. Unauthorized tells of a project that is being deleted."""
        form = FORM.fullmatch(text)
        key = self.keys.find_usable(f"key-{form[1]}") if form else None
        if key is None or not hmac.compare_digest(key.sha256, _digest(text)):
            return None
        if key.is_project_deleted:
            raise Unauthorized("The project of this API key is being deleted, and its keys work no more.")
        left = None if key.seconds_left is None else float(key.seconds_left)
        return RecognizedKey(Caller(key.id, key.project_id, frozenset(key.scopes)), left, key.is_use_due)

    def note_use(self, key_id: str) -> None:
        self.keys.note_use(key_id)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
