"""A light worker's hold on what it is at: prolonged by a thread as long as that lasts."""

import threading
from collections.abc import Callable

import structlog
from sqlalchemy.exc import DBAPIError

from app.jitter import jittered

log = structlog.get_logger()

RENEWALS_A_LEASE = 6


class Lease:
    """`renew` writes to the database and says whether the hold is still ours."""

    def __init__(self, renew: Callable[[], bool], seconds: float, draining: threading.Event) -> None:
        self.draining, self.lost = draining, threading.Event()
        self._renew_once, self._seconds = renew, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def is_over(self) -> bool:
        """Whether the work is to be left: it was deleted, another worker was faster, or this one is to stop."""
        return self.lost.is_set() or self.draining.is_set()

    def _renew(self) -> None:
        while not self._ended.wait(jittered(self._seconds / RENEWALS_A_LEASE)):
            try:
                held = self._renew_once()
            except DBAPIError as error:
                log.warning("cannot renew a lease", error=str(error)[:300])
            except Exception:
                # Whatever kept this renewal back, the next one must come.
                log.exception("a lease was not renewed, will try again")
            else:
                if not held:
                    self.lost.set()
                    return
