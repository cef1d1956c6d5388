"""Checks whether disk space suffices for another attempt, and explains to the user when it ran out."""

import time
from typing import Final

from app.files import free_bytes
from app.settings import Settings

LEAST_FREE_BYTES: Final = 32 * 10**6
"""A worker claims no job with less free disk space."""


class DiskSpace:
    """Tracks one worker's disk space. After an attempt that ran out, it counts as short for the duration of a lease, so
    that another worker can take the job and retries do not follow each other at once."""

    def __init__(self, settings: Settings) -> None:
        self._work, self._cache = settings.work_dir, settings.cache_dir.absolute()
        self._rest_seconds, self._rests_until = settings.lease_seconds, 0.0

    def is_short(self) -> bool:
        return time.monotonic() < self._rests_until or free_bytes(self._work) < LEAST_FREE_BYTES

    def note_full(self, why: str) -> str:
        """Note that disk space ran out and return the message for the job's user. `why` is the message of the write
        that failed."""
        self._rests_until = time.monotonic() + self._rest_seconds
        free = ", ".join(f"{free_bytes(folder) / 1e6:,.1f} MB in {folder}" for folder in (self._work, self._cache))
        advice = "Not enough disk space for the job's files. Free disk space, then retry the job."
        return f"{advice} Free now: {free}. {why}"
