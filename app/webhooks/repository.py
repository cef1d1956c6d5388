"""Stores webhooks and their deliveries in the database."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, case, delete, exists, func, insert, literal, or_, select, update
from sqlalchemy.orm import Session, aliased

from app.db.base import select_page
from app.db.tables import Webhook, WebhookDelivery
from app.domain.cursor import Cursor
from app.domain.webhook import DeliveryState

AT_ONCE_OF_A_PROJECT = 4
"""Limits the simultaneous deliveries of a project, so that its slow receivers leave senders to other projects."""
GIVEN_UP_AFTER = timedelta(days=1)
KEPT = timedelta(days=7)


class Taken(NamedTuple):
    """Represents a delivery that a sender has claimed for one try. `num_tries` and `leased_until` are its fences."""

    delivery: WebhookDelivery
    url: str
    secrets: tuple[str, ...]
    """Holds the secrets, newest first."""
    at: datetime
    """Is the time by the database's clock."""
    leased_until: datetime


class WebhookRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, row: Webhook | WebhookDelivery) -> None:
        self.session.add(row)
        self.session.flush()
        self.session.refresh(row)

    def count(self, project_id: str) -> int:
        query = select(func.count()).select_from(Webhook).where(Webhook.project_id == project_id)
        return self.session.scalars(query).one()

    def find(self, project_id: str, id: str, *, lock: bool = False) -> Webhook | None:
        query = select(Webhook).where(Webhook.project_id == project_id, Webhook.id == id)
        if lock:
            query = query.with_for_update().execution_options(populate_existing=True)
        return self.session.scalars(query).one_or_none()

    def list(self, project_id: str, limit: int, after: Cursor | None) -> Sequence[Webhook]:
        """Return one more than `limit`, newest first."""
        query = select(Webhook).where(Webhook.project_id == project_id)
        return self.session.scalars(select_page(query, Webhook, limit, after)).all()

    def find_listening(self, project_id: str, type: str) -> Sequence[str]:
        """Return the ids of the project's webhooks that subscribe to such events."""
        wanting = Webhook.project_id == project_id, Webhook.enabled, Webhook.events.contains([type])
        return self.session.scalars(select(Webhook.id).where(*wanting)).all()

    def now(self) -> datetime:
        now: datetime = self.session.scalars(select(func.clock_timestamp())).one()
        return now

    def store_secret(self, webhook: Webhook, secret: str, grace: timedelta) -> None:
        """Store the secret. The previous one also signs during the grace period."""
        webhook.previous_secret, webhook.secret = webhook.secret, secret
        webhook.previous_secret_expires_at = func.clock_timestamp() + grace
        self.session.flush()
        self.session.refresh(webhook)

    def delete(self, webhook: Webhook) -> None:
        of_it = Webhook.project_id == webhook.project_id, Webhook.id == webhook.id
        self.session.execute(delete(Webhook).where(*of_it))

    # Deliveries

    def add_deliveries(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add deliveries that are due at once, and are tried for a day."""
        now = func.clock_timestamp()
        times = {"next_try_at": now, "give_up_at": now + GIVEN_UP_AFTER}
        self.session.execute(insert(WebhookDelivery).values([row | times for row in rows]))

    def find_delivery(self, project_id: str, webhook_id: str, id: str) -> WebhookDelivery | None:
        query = select(WebhookDelivery).where(*_of(project_id, webhook_id), WebhookDelivery.id == id)
        return self.session.scalars(query).one_or_none()

    def list_deliveries(
        self, project_id: str, webhook_id: str, limit: int, after: Cursor | None, states: Sequence[DeliveryState]
    ) -> Sequence[WebhookDelivery]:
        """Return one more than `limit`, newest first; in any state unless some are named."""
        query = select(WebhookDelivery).where(*_of(project_id, webhook_id))
        if states:
            query = query.where(WebhookDelivery.state.in_(states))
        return self.session.scalars(select_page(query, WebhookDelivery, limit, after)).all()

    def claim(self, lease_seconds: float) -> Taken | None:
        """Claim the oldest due delivery of the webhook, of any project, whose last delivery was longest ago."""
        webhook = self.session.scalars(_next_webhook()).one_or_none()
        if webhook is None:
            return None
        due = select(WebhookDelivery).where(*_of(webhook.project_id, webhook.id), *_due())
        delivery = self.session.scalars(due.order_by(WebhookDelivery.next_try_at).limit(1)).one_or_none()
        if delivery is None:
            return None  # delivered while this transaction waited for the lock
        now = self.now()
        webhook.last_tried_at = delivery.last_tried_at = now
        webhook.leased_until = now + timedelta(seconds=lease_seconds)
        delivery.num_tries += 1
        self.session.flush()
        is_old_valid = webhook.previous_secret is not None and (webhook.previous_secret_expires_at or now) > now
        secrets = (webhook.secret, webhook.previous_secret) if is_old_valid else (webhook.secret,)
        return Taken(delivery, webhook.url, tuple(filter(None, secrets)), now, webhook.leased_until)

    def conclude(self, taken: Taken, *, delivered: bool, status: int | None, error: str | None, wait: float) -> bool:
        """Record the result of a try: the end, or another try after `wait` seconds, unless its time is over by then.
        Return False if the delivery no longer belongs to this claim."""
        delivery, next_try = taken.delivery, func.clock_timestamp() + timedelta(seconds=wait)
        is_over: ColumnElement[bool] = or_(literal(delivered), next_try > WebhookDelivery.give_up_at)
        end = DeliveryState.delivered if delivered else DeliveryState.failed
        statement = (
            update(WebhookDelivery)
            .where(
                WebhookDelivery.project_id == delivery.project_id,
                WebhookDelivery.id == delivery.id,
                WebhookDelivery.num_tries == delivery.num_tries,
                WebhookDelivery.state == DeliveryState.pending,
            )
            .values(
                state=case((is_over, end.value), else_=DeliveryState.pending.value),
                next_try_at=case((is_over, None), else_=next_try),
                ended_at=case((is_over, func.clock_timestamp())),
                last_status_code=status,
                last_error=error,
            )
            .returning(WebhookDelivery.id)
        )
        concluded = self.session.scalars(statement).one_or_none() is not None
        self._release_webhook(taken)
        return concluded

    def _release_webhook(self, taken: Taken) -> None:
        """Release the webhook, unless the lease expired and another sender has it."""
        delivery = taken.delivery
        own = (
            Webhook.project_id == delivery.project_id,
            Webhook.id == delivery.webhook_id,
            Webhook.leased_until == taken.leased_until,
        )
        self.session.execute(update(Webhook).where(*own).values(leased_until=None))

    def forget(self, limit: int) -> int:
        """Delete deliveries of any project that are a week old; return how many there were."""
        old = select(WebhookDelivery.id).where(WebhookDelivery.created_at < func.statement_timestamp() - KEPT)
        gone = delete(WebhookDelivery).where(WebhookDelivery.id.in_(old.limit(limit))).returning(WebhookDelivery.id)
        return len(self.session.scalars(gone).all())


def _of(project_id: str, webhook_id: str) -> tuple[ColumnElement[bool], ...]:
    return WebhookDelivery.project_id == project_id, WebhookDelivery.webhook_id == webhook_id


def _due() -> tuple[ColumnElement[bool], ...]:
    return WebhookDelivery.state == DeliveryState.pending, WebhookDelivery.next_try_at <= func.statement_timestamp()


def _next_webhook() -> Any:
    other = aliased(Webhook)
    is_leased = other.leased_until > func.clock_timestamp()
    at_once = select(func.count()).where(other.project_id == Webhook.project_id, is_leased).scalar_subquery()
    return (
        select(Webhook)
        .where(
            Webhook.enabled,
            or_(Webhook.leased_until.is_(None), Webhook.leased_until < func.clock_timestamp()),
            exists().where(
                WebhookDelivery.project_id == Webhook.project_id, WebhookDelivery.webhook_id == Webhook.id, *_due()
            ),
            at_once < AT_ONCE_OF_A_PROJECT,
        )
        .order_by(Webhook.last_tried_at.asc().nulls_first(), Webhook.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
