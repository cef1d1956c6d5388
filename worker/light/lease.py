"""Keeps a light worker's claim by renewing its lease on a thread."""

import threading
from collections.abc import Callable

import structlog
from sqlalchemy.exc import DBAPIError

from app.jitter import jittered

log = structlog.get_logger()

RENEWALS_A_LEASE = 6


class Lease:
    """Renews a lease. `renew` writes to the database and returns whether the claim is still valid."""

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
        """Return whether to stop the work: it is no longer wanted, another worker claimed it, or this worker is
        draining."""
        return self.lost.is_set() or self.draining.is_set()

    def _renew(self) -> None:
        while not self._ended.wait(jittered(self._seconds / RENEWALS_A_LEASE)):
            try:
                held = self._renew_once()
            except DBAPIError as error:
                log.warning("PostgreSQL is unreachable; a lease was not renewed", error=str(error)[:300])
            except Exception:
                # Renewals must continue after any error.
                log.exception("a lease was not renewed; it is retried")
            else:
                if not held:
                    self.lost.set()
                    return
