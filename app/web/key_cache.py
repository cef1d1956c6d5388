"""Caches recently recognized API keys, or session tokens, so that a request needs no query for its key.

A key is cached for less than a second, and only if it was valid: a revoked key stops working within a second in every
process, and a new key works at once.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from app.domain.caller import Caller, RecognizedKey

log = structlog.get_logger()
KEEP_SECONDS: Final = 0.8
MOST_KEPT: Final = 10_000


class CachedCaller(NamedTuple):
    caller: Caller
    until: float
    """Gives the expiry by the monotonic clock."""


class KeyCache:
    """Belongs to one event loop; the database is queried in threads."""

    def __init__(self, recognize: Callable[[str], RecognizedKey | None], note_use: Callable[[str], None]) -> None:
        self._recognize, self._note_use = recognize, note_use
        self._kept: dict[bytes, CachedCaller] = {}
        self._asking: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def find_caller(self, key: str) -> Caller | None:
        digest = hashlib.sha256(key.encode()).digest()
        kept = self._kept.get(digest)
        if kept is not None and kept.until > time.monotonic():
            return kept.caller
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.create_task(self._ask(key, digest))
            asking.add_done_callback(lambda _: self._asking.pop(digest))
        # Several requests may wait for it, and one of them may be cancelled.
        return await asyncio.shield(asking)

    async def close(self) -> None:
        """Wait until every use is recorded."""
        await asyncio.gather(*self._noting)

    async def _ask(self, key: str, digest: bytes) -> Caller | None:
        until = time.monotonic() + KEEP_SECONDS  # counted from before the query: the key may be revoked during it
        found = await run_in_threadpool(self._recognize, key)
        if found is None:
            self._kept.pop(digest, None)
            return None
        if found.seconds_left is not None:
            until = min(until, time.monotonic() + found.seconds_left)
        self._keep(digest, CachedCaller(found.caller, until))
        if found.is_use_due:
            noting = asyncio.create_task(self._note(found.caller.key_id))
            self._noting.add(noting)
            noting.add_done_callback(self._noting.discard)
        return found.caller

    def _keep(self, digest: bytes, kept: CachedCaller) -> None:
        if len(self._kept) >= MOST_KEPT:
            now = time.monotonic()
            self._kept = {each: other for each, other in self._kept.items() if other.until > now}
        if len(self._kept) < MOST_KEPT:
            self._kept[digest] = kept

    async def _note(self, key_id: str) -> None:
        """Record the use concurrently with the request, which does not wait for it."""
        try:
            await run_in_threadpool(self._note_use, key_id)
        except SQLAlchemyError:
            log.warning("failed to record the use of an API key", key_id=key_id, exc_info=True)
