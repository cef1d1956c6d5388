"""Who asks: the project and the rights behind an API key."""

from typing import Final, Literal, NamedTuple

Scope = Literal["read", "write"]
SCOPES: Final[tuple[Scope, ...]] = ("read", "write")


class Caller(NamedTuple):
    key_id: str
    project_id: str
    scopes: frozenset[str]
