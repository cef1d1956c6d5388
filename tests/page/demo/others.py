"""Enters webhooks with deliveries, and API keys."""

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.db.tables import ApiKey, Webhook, WebhookDelivery
from app.domain.caller import ADMIN, SCOPES
from app.domain.ids import new_id
from app.domain.webhook import EVENT_TYPES, DeliveryState, event_body
from app.webhooks.signature import new_secret
from tests.page.demo.stories import STORIES
from tests.page.demo.writing import seeded_id

A_DAY = timedelta(days=1)


def add_webhooks(session: Session, project_id: str, now: datetime) -> None:
    kinds = list(EVENT_TYPES.values())
    chat = Webhook(id=seeded_id("webhook-", "chat"), project_id=project_id, name="Team chat",
                   url="https://hooks.chat.example.com/services/T02/B41/x7Yq", events=kinds, enabled=True,
                   secret=new_secret(), created_at=now - 33 * A_DAY)  # fmt: skip
    deploy = Webhook(id=seeded_id("webhook-", "deploy"), project_id=project_id, name="Deploy to staging",
                     url="https://deploy.example.com/tunewright", events=kinds[:1], enabled=True,
                     secret=new_secret(), previous_secret=new_secret(), previous_secret_expires_at=now + A_DAY / 2,
                     created_at=now - 12 * A_DAY)  # fmt: skip
    old = Webhook(id=seeded_id("webhook-", "pager"), project_id=project_id, name="Pager (old)",
                  url="https://pager.example.net/v1/alerts", events=kinds[1:2], enabled=False, secret=new_secret(),
                  created_at=now - 61 * A_DAY)  # fmt: skip
    session.add_all([chat, deploy, old])
    session.flush()
    ended = [story for story in STORIES if story.state in EVENT_TYPES]
    for webhook in (chat, deploy):
        for story in ended:
            if EVENT_TYPES[story.state] in webhook.events:
                session.add(delivery(webhook, story.name, EVENT_TYPES[story.state], now - story.hours_ago * A_DAY / 24))
    session.add(failed_delivery(deploy, now))
    session.add(pending_delivery(deploy, now))


def delivery(webhook: Webhook, job: str, kind: str, at: datetime) -> WebhookDelivery:
    event = seeded_id("evt-", f"{webhook.name}/{job}")
    return WebhookDelivery(
        id=new_id("delivery"), project_id=webhook.project_id, webhook_id=webhook.id, event_id=event, type=kind,
        body=event_body(event, kind, int(at.timestamp()), seeded_id("ftjob-", job)), state=DeliveryState.delivered,
        num_tries=1, last_status_code=204, give_up_at=at + A_DAY, created_at=at,
        last_tried_at=at + timedelta(seconds=0.3), ended_at=at + timedelta(seconds=0.7),
    )  # fmt: skip


def failed_delivery(webhook: Webhook, now: datetime) -> WebhookDelivery:
    found = delivery(webhook, "support-replies-qwen3-0.6b", webhook.events[0], now - 4 * A_DAY)
    found.state, found.num_tries, found.last_status_code = DeliveryState.failed, 11, 502
    found.last_error, found.ended_at = "The receiver responded with status 502.", now - 3 * A_DAY
    found.last_tried_at = found.ended_at
    return found


def pending_delivery(webhook: Webhook, now: datetime) -> WebhookDelivery:
    """Return a delivery whose next try is a year away, so that nothing is sent."""
    found = delivery(webhook, "support-replies-qwen3-1.7b-v2", webhook.events[0], now - timedelta(minutes=18))
    found.state, found.num_tries, found.last_status_code = DeliveryState.pending, 3, None
    found.last_error = "The receiver did not respond within 10 seconds."
    found.next_try_at, found.give_up_at = now + 365 * A_DAY, now + 366 * A_DAY
    found.last_tried_at, found.ended_at = now - timedelta(minutes=3), None
    return found


def add_keys(session: Session, project_id: str, now: datetime) -> None:
    for name, scopes, age, used, ends, revoked in (
        ("ci", SCOPES, 120 * A_DAY, timedelta(minutes=7), None, None),
        ("dashboard (read only)", ("read",), 64 * A_DAY, timedelta(seconds=40), None, None),
        ("operations", ADMIN, 200 * A_DAY, 9 * A_DAY, None, None),
        ("contractor, summer 2026", SCOPES, 150 * A_DAY, 71 * A_DAY, -60 * A_DAY, None),
        ("notebook of Aylin", SCOPES, 31 * A_DAY, 2 * A_DAY, 59 * A_DAY, None),
        ("lost laptop", SCOPES, 88 * A_DAY, 40 * A_DAY, None, 39 * A_DAY),
    ):
        session.add(
            ApiKey(
                id=seeded_id("key-", name), project_id=project_id, name=name, sha256=seeded_id("", name),
                scopes=sorted(scopes), created_at=now - age, last_used_at=now - used,
                expires_at=now + ends if ends else None, revoked_at=now - revoked if revoked else None,
            )
        )  # fmt: skip
