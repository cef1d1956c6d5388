"""Defines the request and response bodies for webhooks."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from app.db.tables import Webhook
from app.domain.caller import Caller
from app.domain.webhook import EVENT_TYPES, DeliveryState, JobEventType
from app.web.api_model import from_row
from app.webhooks.target import MAX_URL_CHARS, parse

EXAMPLE: dict[str, Any] = {"url": "https://hooks.example.com/tunewright", "name": "deploys"}
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARS)]
Events = Annotated[list[JobEventType], Field(min_length=1, max_length=10)]
Name = Annotated[str | None, Field(min_length=1, max_length=200)]


class WebhookIn(BaseModel):
    """A webhook to create."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": EXAMPLE}
    )

    url: Url
    """An https or http URL with a public address, or one that the operator allows."""
    events: Events = list(EVENT_TYPES.values())
    """The events that are delivered; default: all."""
    name: Name = None
    """A name for your reference."""
    enabled: bool = True


class WebhookChange(BaseModel):
    """A change to a webhook; omitted fields keep their values."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": {"enabled": False}}
    )

    url: Url = ""
    events: Events = list(EVENT_TYPES.values())
    name: Name = None
    enabled: bool = True
    """Whether events are delivered. Events that happen while the webhook is disabled are never delivered to it."""


class WebhookOut(BaseModel):
    """A webhook, which notifies a URL about the project's jobs."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    name: str | None
    url: str
    """Without its path (`https://host/…`) for a key without the scope `webhooks`: the path may contain a secret."""
    events: list[str]
    enabled: bool
    previous_secret_expires_at: datetime | None
    """When the previous secret stops signing; null if there was none."""
    created_at: datetime

    @classmethod
    def of(cls, webhook: Webhook, caller: Caller) -> Self:
        """Return the webhook as the caller may see it."""
        url = webhook.url if caller.sees_webhook_urls else parse(webhook.url).masked
        return from_row(cls, webhook, url=url)


class WebhookWithSecret(WebhookOut):
    """A webhook with its secret, returned only when the webhook is created or its secret is rotated."""

    secret: str
    """The secret that verifies deliveries (`whsec_…`); shown only once."""


class DeliveryOut(BaseModel):
    """The delivery of one event to one webhook."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    id: str
    webhook_id: str
    event_id: str
    """The header `webhook-id`, the same for every try."""
    type: str
    body: str
    """The exact body that is sent."""
    state: DeliveryState
    """`pending` until the receiver responds with 2xx (`delivered`), for at most one day (`failed`)."""
    num_tries: int
    """Number of tries that were started."""
    last_status_code: int | None
    """Status code of the receiver's last response; null if there was none."""
    last_error: str | None
    next_try_at: datetime | None
    """When the next try starts; null once the delivery has ended."""
    created_at: datetime
    last_tried_at: datetime | None
    ended_at: datetime | None
