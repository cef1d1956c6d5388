"""Defines the client's methods for API keys. All of them need a key with the scope `admin`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tunewright.transport import Transport, idempotency_header
from tunewright.wire import Answer


@dataclass(frozen=True)
class Key(Answer):
    """Represents an API key. `project` is the project's name. `state` is active, expired or revoked. `replaced_by` is
    the id of the key that a rotation created. Only the response to a creation or a rotation contains the secret, in
    `raw["secret"]`."""

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
        """Create a key. Only this response contains its secret, in `raw["secret"]`.

        `project` is a name or an id, and defaults to the project of the key in use. `scopes` default to `read` and
        `write`. For `idempotency_key` see `create_job`."""
        fields: dict[str, Any] = {"name": name, "project": project, "expires_after_seconds": expires_after_seconds}
        fields["scopes"] = scopes and list(scopes)
        body = {key: value for key, value in fields.items() if value is not None}
        return Key.read(
            self._transport.request_json("POST", "keys", json=body, headers=idempotency_header(idempotency_key))
        )

    def get_key(self, id: str) -> Key:
        return Key.read(self._transport.request_json("GET", "keys", id))

    def list_keys(self, project: str | None = None) -> Iterator[Key]:
        """List keys, newest first, including expired and revoked ones. `project`, a name or an id, selects those of one
        project."""
        return map(Key.read, self._transport.iterate_pages("keys", params={"project": project}))

    def revoke_key(self, id: str) -> Key:
        """Revoke a key. Every server rejects it within a second."""
        return Key.read(self._transport.request_json("POST", "keys", id, "revoke"))

    def rotate_key(self, id: str, overlap_seconds: int = 86400, *, idempotency_key: str | None = None) -> Key:
        """Replace a key. The new secret is in `raw["secret"]`; the old key stays valid for `overlap_seconds`."""
        body = {"overlap_seconds": overlap_seconds}
        return Key.read(
            self._transport.request_json(
                "POST", "keys", id, "rotate", json=body, headers=idempotency_header(idempotency_key)
            )
        )
