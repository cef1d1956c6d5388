"""Manages API keys: `tw_<24 hex digits that identify it>_<256 random bits>`; only the SHA-256 of the whole is
stored."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy.orm import Session

from app.db.tables import ApiKey
from app.domain.caller import ADMIN, SCOPES, Caller, RecognizedKey
from app.domain.cursor import Cursor
from app.domain.ids import is_id, new_id
from app.errors import Unauthorized
from app.keys.errors import KeyNotActive, KeyNotFound, KeyReplaced, OwnKey
from app.keys.repository import KeyRepository, ShownKey, UsableKey

FORM = re.compile(r"tw_([0-9a-f]{24})_[A-Za-z0-9_-]{43}")
DAY_SECONDS: Final = 86_400
MAX_OVERLAP_SECONDS: Final = 30 * DAY_SECONDS
MAX_LIFE_SECONDS: Final = 3650 * DAY_SECONDS
OWN_OVERLAP_SECONDS: Final = 60
"""Sets the minimum overlap of a key that rotates itself, so that the request can be repeated if its answer is lost."""


class KeyService:
    def __init__(self, session: Session) -> None:
        self.keys = KeyRepository(session)

    def create(
        self,
        project_id: str,
        name: str,
        scopes: Iterable[str] = SCOPES,
        *,
        life: timedelta | None = None,
    ) -> str:
        """Create a key, which can never be shown again. `life` None means no limit; `admin` includes the other
        scopes."""
        id = new_id("key")
        text = f"tw_{id.removeprefix('key-')}_{secrets.token_urlsafe(32)}"
        given = set(scopes) | (set(ADMIN) if "admin" in scopes else set())
        self.keys.add(ApiKey(id=id, project_id=project_id, name=name, sha256=_digest(text), scopes=sorted(given)), life)
        return text

    def get(self, id: str, *, lock: bool = False) -> ShownKey:
        """Get a key of any project, valid or not."""
        key = self.keys.find(id, lock=lock) if is_id(id, "key") else None
        if key is None:
            raise KeyNotFound(id)
        return key

    def list(
        self, limit: int | None = None, after: Cursor | None = None, project: str | None = None
    ) -> Sequence[ShownKey]:
        """Return the keys of all projects, or of one by its name or id; one more than `limit`, newest first."""
        return self.keys.list(limit, after, project)

    def revoke(self, id: str, by_key_id: str | None = None) -> ShownKey:
        """Revoke the key. Repeating it is no error. Raise OwnKey if the key itself makes the request."""
        if id == by_key_id:
            raise OwnKey("rotate it")
        self.get(id, lock=True)
        self.keys.revoke(id)
        return self.get(id)

    def rotate(self, id: str, overlap: timedelta, by_key_id: str | None = None) -> str:
        """Replace a key by a new one with the same project, name, scopes and lifetime. The old one expires after
        `overlap`, unless it expires sooner."""
        old = self.get(id, lock=True)
        if old.state != "active":
            raise KeyNotActive(id, old.state)
        if old.key.replaced_by:
            raise KeyReplaced(id, old.key.replaced_by)
        if id == by_key_id and overlap.total_seconds() < OWN_OVERLAP_SECONDS:
            raise OwnKey(f"keep it valid for at least {OWN_OVERLAP_SECONDS} seconds, in case the response is lost")
        life = old.key.expires_at - old.key.created_at if old.key.expires_at else None
        text = self.create(old.key.project_id, old.key.name, old.key.scopes, life=life)
        self.keys.replace(id, id_of(text), overlap)
        return text

    def recognize(self, text: str) -> RecognizedKey | None:
        """Return the data of a valid key. Raise Unauthorized if its project is being deleted."""
        key = self.keys.find_usable(id_of(text)) if FORM.fullmatch(text) else None
        return _describe(key) if key and hmac.compare_digest(key.sha256, _digest(text)) else None

    def find_valid(self, id: str) -> RecognizedKey | None:
        """Return the data of a valid key by its id, for a session that stands for it. Raise Unauthorized if its project
        is being deleted."""
        key = self.keys.find_usable(id)
        return _describe(key) if key else None

    def note_use(self, key_id: str) -> None:
        self.keys.note_use(key_id)


def id_of(text: str) -> str:
    """Return the id of a key in the right format."""
    return f"key-{text[3:27]}"


def _describe(key: UsableKey) -> RecognizedKey:
    if key.is_project_deleted:
        raise Unauthorized("The project of this API key is being deleted; its keys no longer work.")
    left = None if key.seconds_left is None else float(key.seconds_left)
    return RecognizedKey(Caller(key.id, key.project_id, frozenset(key.scopes)), left, key.is_use_due)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
