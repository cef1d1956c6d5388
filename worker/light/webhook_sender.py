"""Sends webhooks: claim → send → conclude.

Each event is delivered at least once: if a sender dies in between, its lease expires and the delivery is tried
again."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog
from sqlalchemy.exc import DBAPIError

from app.db.session import Sessions, transaction
from app.failpoints import around
from app.settings import Settings
from app.webhooks.errors import TooManyLookups
from app.webhooks.lookups import Lookups
from app.webhooks.repository import AT_ONCE_OF_A_PROJECT, Taken, WebhookRepository
from app.webhooks.signature import signed_headers
from app.webhooks.target import BadTarget, parse, resolve
from worker.light.webhook_request import NoAnswer, send_post

log = structlog.get_logger()

SENDERS = 8
LOOKUPS_AT_ONCE = 2 * SENDERS
"""Includes lookups that have timed out but are still running."""
SHORTEST_SECONDS = 0.01
FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 2 * 3600.0
MAX_ERROR_CHARS = 500


class WebhookSender:
    """Sends with several threads, so that a slow receiver blocks no other. None of them runs inspections."""

    def __init__(self, settings: Settings, sessions: Sessions, news: threading.Event) -> None:
        self._settings, self._sessions, self._news = settings, sessions, news
        self._free = threading.Semaphore(SENDERS)
        self._pool = ThreadPoolExecutor(SENDERS, thread_name_prefix="webhooks")
        self._lookups = open_lookups()

    def send_due(self, draining: threading.Event) -> None:
        """Start all deliveries that are due. When a sender finishes, the webhook's next delivery may be due, so it sets
        `news`."""
        while not draining.is_set():
            self._free.acquire()
            taken = None
            try:
                taken = self._claim()
            finally:
                if taken is None:
                    self._free.release()
            if taken is None:
                return
            self._pool.submit(self._send, taken)

    def close(self) -> None:
        """Wait until the deliveries in progress have ended."""
        self._pool.shutdown()

    def _claim(self) -> Taken | None:
        lease = self._settings.webhook_timeout_seconds + self._settings.lease_seconds
        with transaction(self._sessions, "claim_delivery") as session:
            return WebhookRepository(session).claim(lease)

    def _send(self, taken: Taken) -> None:
        try:
            deliver(self._settings, self._sessions, self._lookups, taken)
        except DBAPIError as error:
            log.warning(
                "PostgreSQL is unreachable; a delivery is delayed", delivery=taken.delivery.id, error=str(error)[:300]
            )
        except Exception:
            log.exception("a delivery failed with an internal error; it is retried", delivery=taken.delivery.id)
        finally:
            self._free.release()
            self._news.set()


def open_lookups() -> Lookups:
    return Lookups(LOOKUPS_AT_ONCE, AT_ONCE_OF_A_PROJECT)


def deliver(settings: Settings, sessions: Sessions, lookups: Lookups, taken: Taken) -> None:
    """Try the delivery once, and record the outcome."""
    status, error = try_delivery(settings, lookups, taken)
    delivered = error is None
    if not delivered:
        log.warning(
            "a webhook was not delivered",
            webhook=taken.delivery.webhook_id,
            tries=taken.delivery.num_tries,
            error=error,
        )
    with transaction(sessions, "conclude_delivery") as session:
        WebhookRepository(session).conclude(
            taken, delivered=delivered, status=status, error=error, wait=wait_after(taken.delivery.num_tries)
        )


def try_delivery(settings: Settings, lookups: Lookups, taken: Taken) -> tuple[int | None, str | None]:
    """Return the response's status, if any, and the error, if any. The DNS lookup counts toward the time limit."""
    until = time.monotonic() + settings.webhook_timeout_seconds
    project_id = taken.delivery.project_id
    body = taken.delivery.body
    headers = {"Content-Type": "application/json", "User-Agent": "Tunewright-Webhooks/1"}
    headers |= signed_headers(taken.delivery.event_id, int(taken.at.timestamp()), body, taken.secrets)
    try:
        target = parse(taken.url)
        look_up = partial(lookups.look_up, project_id, seconds=settings.webhook_timeout_seconds)
        addresses = resolve(target, settings.webhook_allowed, look_up)
        with around("send_delivery"):
            left = max(until - time.monotonic(), SHORTEST_SECONDS)
            status = send_post(target, addresses, body.encode(), headers, left)
    except (BadTarget, NoAnswer, TooManyLookups) as error:
        return None, str(error).replace("\0", "\ufffd")[:MAX_ERROR_CHARS]
    if 200 <= status < 300:
        return status, None
    redirected = "; redirects are not followed" if 300 <= status < 400 else ""
    return status, f"The receiver answered with status {status}{redirected}."


def wait_after(tries: int) -> float:
    """Return the seconds until the next try: 5 at first, doubled each time up to two hours, times a random factor from
    0.5 to 1.5, so that a recovered receiver does not get all deliveries at once."""
    wait: float = min(FIRST_WAIT_SECONDS * 2 ** min(tries - 1, 20), LONGEST_WAIT_SECONDS)
    return wait * random.uniform(0.5, 1.5)
