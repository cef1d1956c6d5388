"""Manages browsers' sessions. A token has the form `tws_<24 hex digits that identify it>_<256 random bits>`; only the
SHA-256 of the whole is stored."""

import hashlib
import hmac
import re
import secrets
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy.orm import Session

from app.db.tables import BrowserSession
from app.domain.ids import new_id
from app.errors import Unauthorized
from app.sessions.repository import FoundSession, SessionRepository, ShownSession

FORM: Final = re.compile(r"tws_([0-9a-f]{24})_[A-Za-z0-9_-]{43}")
MAX_LIFE: Final = timedelta(hours=12)
MAX_SESSIONS: Final = 50
"""Limits the sessions of a key. A new one replaces the oldest."""


class NewSession(NamedTuple):
    token: str
    life: timedelta
    shown: ShownSession


class SessionService:
    def __init__(self, session: Session) -> None:
        self.sessions = SessionRepository(session)

    def create(self, key_id: str) -> NewSession:
        """Create a session of a key. Its token can never be read again. Raise Unauthorized if the key is no longer
        valid."""
        key = self.sessions.lock_valid_key(key_id)
        if key is None:
            raise Unauthorized
        id = new_id("session")
        token = f"tws_{id.removeprefix('session-')}_{secrets.token_urlsafe(32)}"
        made = BrowserSession(id=id, project_id=key.project_id, key_id=key_id, sha256=_digest(token))
        self.sessions.add(made, MAX_LIFE, key.expires_at)
        self.sessions.delete_oldest(key_id, MAX_SESSIONS)
        return NewSession(token, made.expires_at - made.created_at, self.describe(key_id, token))

    def find(self, token: str) -> FoundSession | None:
        """Find the session of a token. Whether its key is still valid is for the caller to check."""
        id = _id_of(token)
        found = self.sessions.find(id) if id else None
        return found if found and hmac.compare_digest(found.sha256, _digest(token)) else None

    def describe(self, key_id: str, token: str | None) -> ShownSession:
        """Describe a key, and its session with this token if there is one."""
        shown = self.sessions.show(key_id, _id_of(token) if token else None)
        if shown is None:
            raise Unauthorized
        return shown

    def delete(self, token: str) -> None:
        """Delete the session. Repeating it is no error."""
        if id := _id_of(token):
            self.sessions.delete(id, _digest(token))

    def get_server_id(self) -> str:
        """Get the installation's id, which is the same in all processes."""
        return self.sessions.get_server_id()


def _id_of(token: str) -> str | None:
    match = FORM.fullmatch(token)
    return f"session-{match[1]}" if match else None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
