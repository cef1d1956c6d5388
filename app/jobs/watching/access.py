"""Checks whether a stream's reader is still allowed to read it."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

CHECK_SECONDS: Final = 3.0


class AccessCheck:
    """Checks every few seconds. The streams of one key share a look-up: the cache of keys answers the others."""

    def __init__(self, is_allowed: Callable[[], Awaitable[bool]]) -> None:
        self._is_allowed, self._checked_at = is_allowed, time.monotonic()

    @property
    def due_at(self) -> float:
        return self._checked_at + CHECK_SECONDS

    async def is_allowed(self) -> bool:
        if time.monotonic() < self.due_at:
            return True
        self._checked_at = time.monotonic()
        return await self._is_allowed()
