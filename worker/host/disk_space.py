"""Disk space where attempts work: whether it suffices for another one, and what is told where it ran out."""

import time
from typing import Final

from app.files import free_bytes
from app.settings import Settings

LEAST_FREE_BYTES: Final = 32 * 10**6
"""Of a worker that takes jobs."""


class DiskSpace:
    """Of one worker. It is short for a lease's time after an attempt for which it did not suffice: another worker comes
    first, and the job's tries do not follow one another at once."""

    def __init__(self, settings: Settings) -> None:
        self._work, self._cache = settings.work_dir, settings.cache_dir.absolute()
        self._rest_seconds, self._rests_until = settings.lease_seconds, 0.0

    def is_short(self) -> bool:
        return time.monotonic() < self._rests_until or free_bytes(self._work) < LEAST_FREE_BYTES

    def ran_out(self, why: str) -> str:
        """What the job's user is told; `why` are the words of whoever could not write."""
        self._rests_until = time.monotonic() + self._rest_seconds
        left = ", ".join(f"{free_bytes(folder) / 1e6:,.1f} MB in {folder}" for folder in (self._work, self._cache))
        lead = "There was not enough disk space for what the job writes. Free space, then retry it."
        return f"{lead} Left now: {left}. {why}"
