"""Defines the client's methods for webhooks."""

from collections.abc import Iterator, Sequence
from typing import Any

from tunewright.transport import Transport, idempotency_header
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
        """Create a webhook. Only this response contains its secret, in `raw["secret"]`. `events` are types such as
        `fine_tuning.job.succeeded`; None means all."""
        fields = {"url": url, "events": events and list(events), "name": name}
        body = {key: value for key, value in fields.items() if value is not None}
        return Webhook.read(
            self._transport.request_json("POST", "webhooks", json=body, headers=idempotency_header(idempotency_key))
        )

    def get_webhook(self, id: str) -> Webhook:
        return Webhook.read(self._transport.request_json("GET", "webhooks", id))

    def list_webhooks(self) -> Iterator[Webhook]:
        return map(Webhook.read, self._transport.iterate_pages("webhooks"))

    def change_webhook(self, id: str, **changes: Any) -> Webhook:
        """Change a webhook's `url`, `events`, `name` or `enabled`."""
        return Webhook.read(self._transport.request_json("PATCH", "webhooks", id, json=changes))

    def rotate_webhook(self, id: str, grace_seconds: int = 86400, *, idempotency_key: str | None = None) -> Webhook:
        """Replace the secret. The new one is in `raw["secret"]`; the old one also signs for `grace_seconds`."""
        options = {"params": {"grace_seconds": grace_seconds}, "headers": idempotency_header(idempotency_key)}
        return Webhook.read(self._transport.request_json("POST", "webhooks", id, "rotate", **options))

    def delete_webhook(self, id: str) -> None:
        self._transport.request_json("DELETE", "webhooks", id)

    def send_test_event(self, id: str) -> Delivery:
        return Delivery.read(self._transport.request_json("POST", "webhooks", id, "test"))

    def list_deliveries(self, webhook_id: str, state: str | None = None) -> Iterator[Delivery]:
        """List the deliveries of the last seven days, newest first."""
        path = ("webhooks", webhook_id, "deliveries")
        return map(Delivery.read, self._transport.iterate_pages(*path, params={"state": state}))

    def get_delivery(self, webhook_id: str, id: str) -> Delivery:
        return Delivery.read(self._transport.request_json("GET", "webhooks", webhook_id, "deliveries", id))

    def redeliver(self, webhook_id: str, id: str) -> Delivery:
        """Create a new delivery of the same event, once the old delivery has ended."""
        return Delivery.read(
            self._transport.request_json("POST", "webhooks", webhook_id, "deliveries", id, "redeliver")
        )
