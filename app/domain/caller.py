"""Who asks: the project and the rights behind an API key."""

from typing import Final, Literal, NamedTuple

Scope = Literal["read", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = ("read", "write")
"""Of an ordinary key."""
ADMIN: Final[tuple[Scope, ...]] = (*SCOPES, "admin")
"""Of a key that also changes what serves all projects."""


class Caller(NamedTuple):
    key_id: str
    project_id: str
    scopes: frozenset[str]

    @property
    def is_admin(self) -> bool:
        return "admin" in self.scopes
