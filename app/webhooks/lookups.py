"""Looks up host names: each in a separate thread, with a bound on their number and on the wait.

A query to the name server cannot be cancelled: a look-up keeps its slot until it ends, even if no request waits for it.
"""

import threading
from collections import Counter
from concurrent.futures import Future

from app.webhooks.errors import TooManyLookups
from app.webhooks.target import Address, BadTarget, look_up


class Lookups:
    def __init__(self, most: int, most_of_a_project: int) -> None:
        self._most, self._most_of_a_project = most, most_of_a_project
        self._lock = threading.Lock()
        self._running = Counter[str]()
        """Counts the running look-ups by project."""

    def look_up(self, project_id: str, host: str, seconds: float) -> list[Address]:
        """Return the addresses of the name. Raise BadTarget if it has none or is not resolved within `seconds`; raise
        TooManyLookups at once if no slot is free."""
        self._take_slot(project_id)
        found = Future[list[Address]]()
        # A daemon thread, so that a process with a blocked look-up can end.
        thread = threading.Thread(target=self._run, args=(project_id, host, found), name="look-up", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the process may have no more threads
            self._release_slot(project_id)
            raise
        try:
            return found.result(seconds)
        except TimeoutError as error:
            message = f"Resolving {host} timed out after {seconds:g} s; try again, or check the name."
            raise BadTarget("host_timeout", message) from error

    def _run(self, project_id: str, host: str, found: Future[list[Address]]) -> None:
        try:
            addresses = look_up(host)
        except BaseException as error:
            self._release_slot(project_id)
            found.set_exception(error)
        else:
            self._release_slot(project_id)
            found.set_result(addresses)

    def _take_slot(self, project_id: str) -> None:
        with self._lock:
            if self._running.total() >= self._most or self._running[project_id] >= self._most_of_a_project:
                raise TooManyLookups
            self._running[project_id] += 1

    def _release_slot(self, project_id: str) -> None:
        with self._lock:
            self._running[project_id] -= 1
            if not self._running[project_id]:
                del self._running[project_id]
