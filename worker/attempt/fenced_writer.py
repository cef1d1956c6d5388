"""What a worker writes of an attempt, whatever becomes of Postgres meanwhile."""

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
"""Time between two tries to write to a Postgres that is away."""
TICK_SECONDS = 0.1


class FencedWriter:
    """Transactions in the name of one attempt; StaleAttempt once it is lost for good."""

    def __init__(self, sessions: Sessions, claim: Claim, lease_seconds: float, is_given_up: Callable[[], bool]) -> None:
        self._sessions, self._claim, self._lease = sessions, claim, lease_seconds
        self._is_given_up = is_given_up

    def once(self, change: Callable[[AttemptService], T], step: str) -> T:
        """`step` names the failpoints of the transaction. DBAPIError if Postgres is away. A lease that lapsed meanwhile
        is taken up again first, if that is still possible: a worker that wakes may come here before its heartbeat."""
        try:
            with transaction(self._sessions, step) as session:
                return change(AttemptService(session, self._claim))
        except StaleAttempt:
            with transaction(self._sessions, "take_up_again") as session:
                QueueService(session).renew(self._claim, self._lease)
        with transaction(self._sessions, step) as session:
            return change(AttemptService(session, self._claim))

    def write(self, change: Callable[[AttemptService], T], step: str) -> T:
        """Tried until Postgres answers. A change that was committed and whose answer was lost is tried again: it must
        be one that can be."""
        while True:
            try:
                return self.once(change, step)
            except DBAPIError as error:
                if not is_outage(error):
                    raise
                self.endure(error)

    def tried(self, change: Callable[[AttemptService], object], step: str) -> bool:
        """Whether Postgres took it."""
        try:
            self.once(change, step)
        except DBAPIError as error:
            if not is_outage(error):
                raise
            log.warning("told later: Postgres is away", job=self._claim.job_id, step=step, error=str(error)[:300])
            return False
        return True

    def endure(self, error: DBAPIError) -> None:
        log.warning("waiting for Postgres", job=self._claim.job_id, error=str(error)[:300])
        until = time.monotonic() + jittered(PATIENCE_SECONDS)
        while time.monotonic() < until:
            if self._is_given_up():
                raise StaleAttempt from error
            time.sleep(TICK_SECONDS)
