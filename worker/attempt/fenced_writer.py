"""Writes an attempt's changes to PostgreSQL, with retries during outages."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError

from app.db.session import Sessions, is_outage, transaction
from app.errors import StaleAttempt
from app.jitter import jittered
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService

log = structlog.get_logger()

T = TypeVar("T")

PATIENCE_SECONDS = 5.0
"""Is the wait between two tries while PostgreSQL is unreachable."""
TICK_SECONDS = 0.1


class FencedWriter:
    """Runs transactions on behalf of one attempt. Raises StaleAttempt once the attempt is lost for good."""

    def __init__(self, sessions: Sessions, claim: Claim, lease_seconds: float, is_given_up: Callable[[], bool]) -> None:
        self._sessions, self._claim, self._lease = sessions, claim, lease_seconds
        self._is_given_up = is_given_up

    def run_once(self, change: Callable[[AttemptService], T], step: str) -> T:
        """Run the change in one transaction. `step` names the transaction's failpoints.

        Raises DBAPIError if PostgreSQL is unreachable. An expired lease is renewed first where that is still possible:
        a worker that was suspended may write before its next heartbeat."""
        try:
            with transaction(self._sessions, step) as session:
                return change(AttemptService(session, self._claim))
        except StaleAttempt:
            with transaction(self._sessions, "take_up_again") as session:
                QueueService(session).renew(self._claim, self._lease)
        with transaction(self._sessions, step) as session:
            return change(AttemptService(session, self._claim))

    def write(self, change: Callable[[AttemptService], T], step: str) -> T:
        """Retry the change until PostgreSQL answers. The change must be safe to repeat: it runs again if it was
        committed but the response was lost."""
        while True:
            try:
                return self.run_once(change, step)
            except DBAPIError as error:
                if not is_outage(error):
                    raise
                self.wait_for_postgres(error)

    def try_write(self, change: Callable[[AttemptService], object], step: str) -> bool:
        """Write the change and return whether PostgreSQL accepted it. An outage is logged, not raised."""
        try:
            self.run_once(change, step)
        except DBAPIError as error:
            if not is_outage(error):
                raise
            log.warning(
                "PostgreSQL is unreachable; the change is written later",
                job=self._claim.job_id,
                step=step,
                error=str(error)[:300],
            )
            return False
        return True

    def wait_for_postgres(self, error: DBAPIError) -> None:
        """Wait before the next try. Raises StaleAttempt if the attempt is given up."""
        log.warning("PostgreSQL is unreachable; waiting", job=self._claim.job_id, error=str(error)[:300])
        until = time.monotonic() + jittered(PATIENCE_SECONDS)
        while time.monotonic() < until:
            if self._is_given_up():
                raise StaleAttempt from error
            time.sleep(TICK_SECONDS)
