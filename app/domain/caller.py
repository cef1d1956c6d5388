"""Describes the caller of a request: the project and the rights of an API key."""

from typing import Final, Literal, NamedTuple

Scope = Literal["read", "write", "webhooks", "admin"]
SCOPES: Final[tuple[Scope, ...]] = ("read", "write", "webhooks")
"""Lists the scopes of an ordinary key."""
ADMIN: Final[tuple[Scope, ...]] = (*SCOPES, "admin")
"""Lists the scopes of a key that also changes resources of all projects."""


class Caller(NamedTuple):
    key_id: str
    project_id: str
    scopes: frozenset[str]

    @property
    def is_admin(self) -> bool:
        return "admin" in self.scopes

    @property
    def sees_webhook_urls(self) -> bool:
        """Say whether the caller sees whole webhook URLs, whose path may contain a receiver's secret."""
        return "webhooks" in self.scopes


class RecognizedKey(NamedTuple):
    """Holds the database's facts about a valid key."""

    caller: Caller
    seconds_left: float | None
    """Counts the seconds until it expires. Null if it never does."""
    is_use_due: bool
    """Says whether the key's last use must be recorded now."""
