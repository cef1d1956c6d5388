"""Webhooks on the wire."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from app.db.tables import Webhook
from app.domain.caller import Caller
from app.domain.webhook import TOLD, DeliveryState, JobEventType
from app.web.row_schema import from_row
from app.webhooks.target import MAX_URL_CHARS, parse

EXAMPLE: dict[str, Any] = {"url": "https://hooks.example.com/tunewright", "name": "deploys"}
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARS)]
Events = Annotated[list[JobEventType], Field(min_length=1, max_length=10)]
Name = Annotated[str | None, Field(min_length=1, max_length=200)]


class WebhookIn(BaseModel):
    """Where to tell of what."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": EXAMPLE}
    )

    url: Url
    """https or http, to a public address or one that the operator allows."""
    events: Events = list(TOLD.values())
    """What it is told of; all there is, unless given."""
    name: Name = None
    """For you to know it by."""
    enabled: bool = True


class WebhookChange(BaseModel):
    """What is to be different; the rest stays."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": {"enabled": False}}
    )

    url: Url = ""
    events: Events = list(TOLD.values())
    name: Name = None
    enabled: bool = True
    """One that is not enabled is told nothing, and what happens meanwhile is never told to it."""


class WebhookOut(BaseModel):
    """Where a project is told of its jobs."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    name: str | None
    url: str
    """Without its path, `https://host/…`, for a key without the scope `webhooks`: the path may hold a secret."""
    events: list[str]
    enabled: bool
    previous_secret_expires_at: datetime | None
    """Until then the secret before the present one signs too; null if there was none."""
    created_at: datetime

    @classmethod
    def of(cls, webhook: Webhook, caller: Caller) -> Self:
        """As the caller may see it."""
        url = webhook.url if caller.sees_webhook_urls else parse(webhook.url).masked
        return from_row(cls, webhook, url=url)


class WebhookWithSecret(WebhookOut):
    """Only a creation and a rotation are answered so."""

    secret: str
    """`whsec_…`, which verifies what it is sent; it is shown here alone."""


class DeliveryOut(BaseModel):
    """One event for one webhook."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    id: str
    webhook_id: str
    event_id: str
    """The header `webhook-id`, at every try."""
    type: str
    body: str
    """What is sent, to the byte."""
    state: DeliveryState
    """`pending` until the receiver has answered with 2xx (`delivered`), or for a day (`failed`)."""
    num_tries: int
    """How many were begun."""
    last_status_code: int | None
    """What the receiver answered last; null if nothing came."""
    last_error: str | None
    next_try_at: datetime | None
    """Null once it has ended."""
    created_at: datetime
    last_tried_at: datetime | None
    ended_at: datetime | None
