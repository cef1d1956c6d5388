"""Defines the client's methods for webhooks."""

from collections.abc import Iterator, Sequence
from typing import Any

from tunewright.transport import Transport, once
from tunewright.wire import Delivery, Webhook


class WebhookCalls:
    _transport: Transport

    def create_webhook(
        self,
        url: str,
        events: Sequence[str] | None = None,
        name: str | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Webhook:
        """Create a webhook. Its secret is in `raw["secret"]` of this answer only. `events` are types such as
        `fine_tuning.job.succeeded`; None means all."""
        wanted = {"url": url, "events": events and list(events), "name": name}
        body = {key: value for key, value in wanted.items() if value is not None}
        return Webhook.read(self._transport.ask("POST", "webhooks", json=body, headers=once(idempotency_key)))

    def get_webhook(self, id: str) -> Webhook:
        return Webhook.read(self._transport.ask("GET", "webhooks", id))

    def list_webhooks(self) -> Iterator[Webhook]:
        return map(Webhook.read, self._transport.pages("webhooks"))

    def change_webhook(self, id: str, **changes: Any) -> Webhook:
        """Change a webhook's `url`, `events`, `name` or `enabled`."""
        return Webhook.read(self._transport.ask("PATCH", "webhooks", id, json=changes))

    def rotate_webhook(self, id: str, grace_seconds: int = 86400, *, idempotency_key: str | None = None) -> Webhook:
        """Create a new secret, in `raw["secret"]`. The old one also signs for `grace_seconds`."""
        wanted = {"params": {"grace_seconds": grace_seconds}, "headers": once(idempotency_key)}
        return Webhook.read(self._transport.ask("POST", "webhooks", id, "rotate", **wanted))

    def delete_webhook(self, id: str) -> None:
        self._transport.ask("DELETE", "webhooks", id)

    def send_test_event(self, id: str) -> Delivery:
        return Delivery.read(self._transport.ask("POST", "webhooks", id, "test"))

    def list_deliveries(self, webhook_id: str, state: str | None = None) -> Iterator[Delivery]:
        """List the deliveries of the last seven days, newest first."""
        path = ("webhooks", webhook_id, "deliveries")
        return map(Delivery.read, self._transport.pages(*path, params={"state": state}))

    def get_delivery(self, webhook_id: str, id: str) -> Delivery:
        return Delivery.read(self._transport.ask("GET", "webhooks", webhook_id, "deliveries", id))

    def redeliver(self, webhook_id: str, id: str) -> Delivery:
        """Create a new delivery of the same event, once the old delivery has ended."""
        return Delivery.read(self._transport.ask("POST", "webhooks", webhook_id, "deliveries", id, "redeliver"))
