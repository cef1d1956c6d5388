"""Who asks: the project and the rights behind an API key."""

from typing import Final, Literal, NamedTuple

Scope = Literal["read", "write", "webhooks", "admin"]
SCOPES: Final[tuple[Scope, ...]] = ("read", "write", "webhooks")
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

    @property
    def sees_webhook_urls(self) -> bool:
        """Whole, with the path in which some receivers have a secret."""
        return "webhooks" in self.scopes


class RecognizedKey(NamedTuple):
    """What the database knows of a key that is in force."""

    caller: Caller
    seconds_left: float | None
    """Until it expires; null is never."""
    is_use_due: bool
    """Whether it is time to note that the key is in use."""
