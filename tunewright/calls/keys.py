"""Defines the client's methods for API keys. All of them need a key with the scope `admin`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tunewright.transport import Transport, once
from tunewright.wire import Answer


@dataclass(frozen=True)
class Key(Answer):
    """Represents an API key of the project whose name is `project`. `state` is active, expired or revoked;
    `replaced_by` is the id of the key that a rotation created in its place. The secret is only in `raw["secret"]` of
    the answer to a creation or a rotation."""

    id: str
    name: str
    project_id: str
    project: str
    scopes: list[str]
    state: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    replaced_by: str | None


class KeyCalls:
    _transport: Transport

    def create_key(
        self,
        name: str,
        *,
        project: str | None = None,
        scopes: Sequence[str] | None = None,
        expires_after_seconds: int | None = None,
        idempotency_key: str | None = None,
    ) -> Key:
        """Create a key. Its secret is in `raw["secret"]` of this answer only.

        `project` is a name or an id; None means the project of the calling key. `scopes` default to `read` and `write`.
        For `idempotency_key` see `create_job`."""
        wanted: dict[str, Any] = {"name": name, "project": project, "expires_after_seconds": expires_after_seconds}
        wanted["scopes"] = scopes and list(scopes)
        body = {key: value for key, value in wanted.items() if value is not None}
        return Key.read(self._transport.ask("POST", "keys", json=body, headers=once(idempotency_key)))

    def get_key(self, id: str) -> Key:
        return Key.read(self._transport.ask("GET", "keys", id))

    def list_keys(self, project: str | None = None) -> Iterator[Key]:
        """List the keys of all projects, or of one by its name or id, newest first, including expired and revoked
        keys."""
        return map(Key.read, self._transport.pages("keys", params={"project": project}))

    def revoke_key(self, id: str) -> Key:
        """Revoke a key. Every server rejects it within a second."""
        return Key.read(self._transport.ask("POST", "keys", id, "revoke"))

    def rotate_key(self, id: str, overlap_seconds: int = 86400, *, idempotency_key: str | None = None) -> Key:
        """Create a new key, in `raw["secret"]`. The old one stays valid for `overlap_seconds`."""
        body = {"overlap_seconds": overlap_seconds}
        return Key.read(self._transport.ask("POST", "keys", id, "rotate", json=body, headers=once(idempotency_key)))
