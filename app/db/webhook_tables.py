"""Defines the tables of webhooks and their deliveries."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from app.db.base import Base, created_at_column, project_id_column


class Webhook(Base):
    """Stores a project's webhook. The webhook has the lease, not a delivery: a receiver gets one event at a time, so
    that a slow receiver occupies one sender."""

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project_id_column()
    name: Mapped[str | None]
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    enabled: Mapped[bool]
    secret: Mapped[str]
    """Is stored in clear text: it must be readable for signing."""
    previous_secret: Mapped[str | None]
    previous_secret_expires_at: Mapped[datetime | None]
    """Is the time until which the old secret signs too."""
    leased_until: Mapped[datetime | None]
    """Is the lease of the light worker that sends to it."""
    last_tried_at: Mapped[datetime | None]
    """Is the time of the last try: the webhook that has waited longest is next."""
    created_at: Mapped[datetime] = created_at_column()

    __table_args__ = (Index("ix_webhooks_page", "project_id", "created_at", "id"),)


class WebhookDelivery(Base):
    """Stores one event for one webhook."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project_id_column()
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    event_id: Mapped[str]
    """Is the header `webhook-id`: the same at every try, and for a redelivery."""
    type: Mapped[str]
    body: Mapped[str]
    state: Mapped[str]
    num_tries: Mapped[int] = mapped_column(server_default=text("0"))
    """Counts the tries begun so far. The number is the fence of the current try."""
    last_status_code: Mapped[int | None]
    last_error: Mapped[str | None]
    next_try_at: Mapped[datetime | None]
    """Is null once the delivery has ended."""
    give_up_at: Mapped[datetime]
    created_at: Mapped[datetime] = created_at_column()
    last_tried_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_webhook_deliveries_page", "webhook_id", "created_at", "id"),
        Index("ix_webhook_deliveries_due", "webhook_id", "next_try_at", postgresql_where=text("state = 'pending'")),
        Index(None, "created_at"),
    )
