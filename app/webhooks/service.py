"""Manages a project's webhooks, and enters the events that are delivered to them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy.orm import Session

from app.db.tables import Webhook, WebhookDelivery
from app.domain.cursor import Cursor
from app.domain.ids import is_id, new_id
from app.domain.jobs.state import JobState
from app.domain.webhook import EVENT_TYPES, TEST_TYPE, DeliveryState, event_body
from app.errors import (
    FieldError,
)
from app.outbox import enqueue_wakeup
from app.settings import Allowed
from app.webhooks.errors import (
    DeliveryNotFound,
    DeliveryPending,
    InvalidWebhook,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
)
from app.webhooks.lookups import Lookups
from app.webhooks.repository import WebhookRepository
from app.webhooks.signature import new_secret
from app.webhooks.target import BadTarget, parse, resolve

MOST_OF_A_PROJECT = 50


LOOKUPS_AT_ONCE: Final = 8
LOOKUPS_OF_A_PROJECT: Final = 2
LOOKUP_SECONDS: Final = 2.0


def open_lookups() -> Lookups:
    """Return the look-ups for the requests of one server."""
    return Lookups(LOOKUPS_AT_ONCE, LOOKUPS_OF_A_PROJECT)


def check_url(url: str, allowed: Allowed, lookups: Lookups, project_id: str) -> None:
    """Raise InvalidWebhook if events may not be sent to the URL at present. It queries a name server, so do not call it
    in a transaction. Raise TooManyLookups if too many look-ups are running."""
    try:
        resolve(parse(url), allowed, lambda host: lookups.look_up(project_id, host, LOOKUP_SECONDS))
    except BadTarget as error:
        raise InvalidWebhook([FieldError("/url", error.code, str(error))]) from error


class WebhookService:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.webhooks = WebhookRepository(session)

    def create(self, project_id: str, *, url: str, events: Sequence[str], name: str | None, enabled: bool) -> Webhook:
        """Create a webhook for a URL that `check_url` has accepted."""
        if self.webhooks.count(project_id) >= MOST_OF_A_PROJECT:
            raise TooManyWebhooks(MOST_OF_A_PROJECT)
        webhook = Webhook(
            id=new_id("webhook"),
            project_id=project_id,
            name=name,
            url=url,
            events=list(dict.fromkeys(events)),
            enabled=enabled,
            secret=new_secret(),
        )
        self.webhooks.add(webhook)
        return webhook

    def get(self, project_id: str, id: str, *, lock: bool = False) -> Webhook:
        webhook = self.webhooks.find(project_id, id, lock=lock) if is_id(id, "webhook") else None
        if webhook is None:
            raise WebhookNotFound(id)
        return webhook

    def list(self, project_id: str, limit: int, after: Cursor | None) -> Sequence[Webhook]:
        return self.webhooks.list(project_id, limit, after)

    def change(self, project_id: str, id: str, **values: Any) -> Webhook:
        webhook = self.get(project_id, id, lock=True)
        for name, value in values.items():
            setattr(webhook, name, value)
        self.session.flush()
        return webhook

    def rotate(self, project_id: str, id: str, grace_seconds: float) -> Webhook:
        """Give it a new secret. The previous one also signs for this many seconds; an older one no longer does."""
        webhook = self.get(project_id, id, lock=True)
        self.webhooks.store_secret(webhook, new_secret(), timedelta(seconds=grace_seconds))
        return webhook

    def delete(self, project_id: str, id: str) -> None:
        """Delete it with its deliveries, including pending ones."""
        self.webhooks.delete(self.get(project_id, id, lock=True))

    def enter_event(self, project_id: str, job_id: str, state: JobState) -> None:
        """Enter the events of a job's new state, in the same transaction that sets the state."""
        type = EVENT_TYPES.get(state)
        listening = self.webhooks.find_listening(project_id, type) if type else ()
        if type and listening:
            self._add_event(project_id, listening, type, job_id)

    def test(self, project_id: str, id: str) -> WebhookDelivery:
        """Send an event of the type for tests, which is about no job."""
        webhook = self._get_enabled(project_id, id)
        [delivery_id] = self._add_event(project_id, [webhook.id], TEST_TYPE, webhook.id)
        return self.get_delivery(project_id, id, delivery_id)

    def redeliver(self, project_id: str, id: str, delivery_id: str) -> WebhookDelivery:
        """Create a new delivery of the same event, after the old one has ended."""
        self._get_enabled(project_id, id)
        old = self.get_delivery(project_id, id, delivery_id)
        if old.state == DeliveryState.pending:
            raise DeliveryPending(old.id)
        [new] = self._add(project_id, [id], old.event_id, old.type, old.body)
        return self.get_delivery(project_id, id, new)

    def get_delivery(self, project_id: str, id: str, delivery_id: str) -> WebhookDelivery:
        self.get(project_id, id)
        known = is_id(delivery_id, "delivery")
        delivery = self.webhooks.find_delivery(project_id, id, delivery_id) if known else None
        if delivery is None:
            raise DeliveryNotFound(delivery_id)
        return delivery

    def list_deliveries(
        self, project_id: str, id: str, limit: int, after: Cursor | None, states: Sequence[DeliveryState] = ()
    ) -> Sequence[WebhookDelivery]:
        self.get(project_id, id)
        return self.webhooks.list_deliveries(project_id, id, limit, after, states)

    def _get_enabled(self, project_id: str, id: str) -> Webhook:
        webhook = self.get(project_id, id, lock=True)
        if not webhook.enabled:
            raise WebhookDisabled(id)
        return webhook

    def _add_event(self, project_id: str, ids: Sequence[str], type: str, about: str) -> Sequence[str]:
        event_id = new_id("evt")
        body = event_body(event_id, type, int(self.webhooks.now().timestamp()), about)
        return self._add(project_id, ids, event_id, type, body)

    def _add(self, project_id: str, ids: Sequence[str], event_id: str, type: str, body: str) -> Sequence[str]:
        event = {"project_id": project_id, "event_id": event_id, "type": type, "body": body}
        rows = [{"id": new_id("delivery"), "webhook_id": id, "state": DeliveryState.pending} | event for id in ids]
        self.webhooks.add_deliveries(rows)
        enqueue_wakeup(self.session, project_id, "webhooks")
        return [str(row["id"]) for row in rows]
