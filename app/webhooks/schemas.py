"""Defines the request and response bodies for webhooks."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from app.db.tables import Webhook
from app.domain.caller import Caller
from app.domain.webhook import EVENT_TYPES, DeliveryState, JobEventType
from app.web.row_schema import from_row
from app.webhooks.target import MAX_URL_CHARS, parse

EXAMPLE: dict[str, Any] = {"url": "https://hooks.example.com/tunewright", "name": "deploys"}
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARS)]
Events = Annotated[list[JobEventType], Field(min_length=1, max_length=10)]
Name = Annotated[str | None, Field(min_length=1, max_length=200)]


class WebhookIn(BaseModel):
    """Describes a webhook to create: its URL and its events."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": EXAMPLE}
    )

    url: Url
    """Must be an https or http URL to a public address, or to one that the operator allows."""
    events: Events = list(EVENT_TYPES.values())
    """Lists the events that are delivered; default all."""
    name: Name = None
    """Names the webhook for you."""
    enabled: bool = True


class WebhookChange(BaseModel):
    """Describes a change to a webhook; omitted fields stay as they are."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": {"enabled": False}}
    )

    url: Url = ""
    events: Events = list(EVENT_TYPES.values())
    name: Name = None
    enabled: bool = True
    """Enables deliveries. A disabled webhook receives nothing, and events that happen while it is disabled are never
    delivered to it."""


class WebhookOut(BaseModel):
    """Describes a webhook, which notifies a URL about the project's jobs."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    name: str | None
    url: str
    """Shows no path, `https://host/…`, to a key without the scope `webhooks`: the path may contain a secret."""
    events: list[str]
    enabled: bool
    previous_secret_expires_at: datetime | None
    """Gives the time until which the previous secret also signs; null if there was none."""
    created_at: datetime

    @classmethod
    def of(cls, webhook: Webhook, caller: Caller) -> Self:
        """Return the webhook as the caller may see it."""
        url = webhook.url if caller.sees_webhook_urls else parse(webhook.url).masked
        return from_row(cls, webhook, url=url)


class WebhookWithSecret(WebhookOut):
    """Describes a webhook with its secret; only a creation and a rotation answer with it."""

    secret: str
    """Verifies the deliveries (`whsec_…`); it is shown only here."""


class DeliveryOut(BaseModel):
    """Describes the delivery of one event to one webhook."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    id: str
    webhook_id: str
    event_id: str
    """Equals the header `webhook-id`, the same for every try."""
    type: str
    body: str
    """Is exactly the body that is sent."""
    state: DeliveryState
    """Is `pending` until the receiver has answered with 2xx (`delivered`), for at most a day (`failed`)."""
    num_tries: int
    """Counts the tries that were started."""
    last_status_code: int | None
    """Gives the status code of the receiver's last answer; null if there was none."""
    last_error: str | None
    next_try_at: datetime | None
    """Gives the time of the next try; null once the delivery has ended."""
    created_at: datetime
    last_tried_at: datetime | None
    ended_at: datetime | None
