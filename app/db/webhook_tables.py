"""The tables of webhooks and of what is told to them."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from app.db.base import Base, created, project


class Webhook(Base):
    """Where a project wants to be told of its jobs. The lease is the webhook's and not a delivery's: one receiver is
    told one thing at a time, so that a slow one takes up one sender."""

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project()
    name: Mapped[str | None]
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    enabled: Mapped[bool]
    secret: Mapped[str]
    """In clear: what signs must be readable."""
    previous_secret: Mapped[str | None]
    previous_secret_expires_at: Mapped[datetime | None]
    """Until then the old secret signs too."""
    leased_until: Mapped[datetime | None]
    """Lease of the light worker that is telling it something."""
    last_tried_at: Mapped[datetime | None]
    """When it was last told something: whoever waits longest comes next."""
    created_at: Mapped[datetime] = created()

    __table_args__ = (Index("ix_webhooks_page", "project_id", "created_at", "id"),)


class WebhookDelivery(Base):
    """One event for one webhook."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project()
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    event_id: Mapped[str]
    """The header `webhook-id`: the same at every try, and when it is delivered anew."""
    type: Mapped[str]
    body: Mapped[str]
    state: Mapped[str]
    num_tries: Mapped[int] = mapped_column(server_default=text("0"))
    """Begun so far; the number is the fence of the one that is under way."""
    last_status_code: Mapped[int | None]
    last_error: Mapped[str | None]
    next_try_at: Mapped[datetime | None]
    """Null once it has ended."""
    give_up_at: Mapped[datetime]
    created_at: Mapped[datetime] = created()
    last_tried_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_webhook_deliveries_page", "webhook_id", "created_at", "id"),
        Index("ix_webhook_deliveries_due", "webhook_id", "next_try_at", postgresql_where=text("state = 'pending'")),
        Index(None, "created_at"),
    )
