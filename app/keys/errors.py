"""Defines the errors of requests about API keys."""

from app.errors import Conflict, NotFound


class KeyNotFound(NotFound):
    code, noun, listing = "key_not_found", "API key", "/keys"


class KeyNotActive(Conflict):
    """The key is expired or revoked; create another one."""

    code = "key_not_active"

    def __init__(self, id: str, state: str) -> None:
        self.id, self.state = id, state
        super().__init__(f"Key {id} is {state}; create another one.")


class KeyReplaced(Conflict):
    """The key has already been rotated; rotate its replacement."""

    code = "key_replaced"

    def __init__(self, id: str, by: str) -> None:
        self.id, self.by = id, by
        super().__init__(f"Key {id} has already been rotated; rotate its replacement, {by}.")


class OwnKey(Conflict):
    """The request would disable its own API key; use another key with the scope `admin`."""

    code = "own_key"

    def __init__(self, advice: str) -> None:
        super().__init__(
            f"The request uses this API key itself; {advice}, use another key with the scope 'admin', or run "
            "`tunewright keys` on the server's machine."
        )
