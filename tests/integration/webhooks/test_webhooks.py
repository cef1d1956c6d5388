"""Tests webhooks through the API, with the real services and a real receiver."""

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from openai import InvalidWebhookSignatureError, OpenAI
from sqlalchemy import func, select, update

from app.db.session import Sessions, transaction
from app.db.tables import Job, OutboxRow, Webhook, WebhookDelivery
from app.domain.events.job_events import JobFailed
from app.domain.hardware import WorkerHardware
from app.domain.jobs.state import FailureReason
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.jobs.repository import JobRepository
from app.jobs.service import JobService
from app.retention.collector import Collector
from app.settings import Settings
from app.storage import Storage
from app.webhooks.repository import WebhookRepository
from tests.fixtures.receiver import Heard, Receiver
from worker.light.webhook_sender import LONGEST_WAIT_SECONDS, WebhookSender, wait_after

Do = Callable[[], int]
AddJob = Callable[[], Job]


def add_webhook(api: TestClient, receiver: Receiver, **fields: Any) -> dict[str, Any]:
    answer = api.post("/webhooks", json={"url": receiver.url} | fields)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/webhooks/{answer.json()['id']}"
    made: dict[str, Any] = answer.json()
    return made


def unwrap(delivery: Heard, secret: str) -> Any:
    """Verify and parse a delivery as a receiver with OpenAI's SDK does."""
    return OpenAI(api_key="none", webhook_secret=secret).webhooks.unwrap(delivery.body, delivery.headers)


def make_due(sessions: Sessions) -> None:
    """Make every pending delivery due."""
    with transaction(sessions) as session:
        pending = update(WebhookDelivery).where(WebhookDelivery.state == "pending")
        session.execute(pending.values(next_try_at=func.clock_timestamp()))


def claim_job(sessions: Sessions) -> Claim:
    with transaction(sessions) as session:
        job = QueueService(session).claim(WorkerHardware("here-1", "cpu", 16.0), 60)
        assert job is not None
        return Claim(job.project_id, job.id, job.attempt, job.claim_token or "")


def test_each_end_and_pause_is_delivered_once_and_verified_by_openais_sdk(
    api: TestClient, receiver: Receiver, add_job: AddJob, deliver_all: Do, sessions: Sessions, project_id: str
) -> None:
    secret = add_webhook(api, receiver)["secret"]
    expected = []
    for state in ("cancelled", "paused"):
        id = add_job().id
        verb = {"cancelled": "cancel", "paused": "pause"}[state]
        assert api.post(f"/jobs/{id}/{verb}").status_code == 200
        expected.append((f"fine_tuning.job.{state}", id))
    for state in ("succeeded", "failed"):
        id = add_job().id
        claim = claim_job(sessions)
        with transaction(sessions) as session:
            attempt = AttemptService(session, claim)
            if state == "succeeded":
                attempt.publish({}, [], None)
            else:
                attempt.fail(FailureReason.non_finite_loss, "NaN")
        expected.append((f"fine_tuning.job.{state}", id))
    assert deliver_all() == 4
    assert deliver_all() == 0
    events = [unwrap(delivery, secret) for delivery in receiver.heard]
    assert [(event.type, event.data.id) for event in events] == expected
    for delivery, event in zip(receiver.heard, events, strict=True):
        assert delivery.headers["webhook-id"] == event.id
        assert json.loads(delivery.body).keys() == {"id", "object", "created_at", "type", "data"}
        assert (event.object, abs(event.created_at - time.time()) < 60) == ("event", True)
        assert delivery.headers["content-type"] == "application/json"
        with pytest.raises(InvalidWebhookSignatureError):
            unwrap(delivery._replace(body=delivery.body + " "), secret)


def test_deliveries_are_added_in_the_jobs_transaction(
    api: TestClient, receiver: Receiver, add_job: AddJob, sessions: Sessions, project_id: str
) -> None:
    add_webhook(api, receiver)
    id = add_job().id

    def counted() -> list[int | None]:
        with transaction(sessions) as session:
            wakeups = select(func.count()).where(OutboxRow.task == "worker.tasks.send_webhooks")
            return [session.scalar(select(func.count()).select_from(WebhookDelivery)), session.scalar(wakeups)]

    with sessions() as session:
        JobService(session).cancel(project_id, id)
        session.rollback()
    assert counted() == [0, 0]
    with transaction(sessions) as session:
        JobService(session).cancel(project_id, id)
    assert counted() == [1, 1]


def test_a_failed_delivery_is_retried_later(
    api: TestClient, receiver: Receiver, add_job: AddJob, deliver_all: Do, sessions: Sessions
) -> None:
    hook = add_webhook(api, receiver)
    api.post(f"/jobs/{add_job().id}/cancel")
    receiver.statuses = [500, 302, 204]
    path = f"/webhooks/{hook['id']}/deliveries"
    errors = [
        "The receiver answered with status 500.",
        "The receiver answered with status 302; redirects are not followed",
    ]
    for tries, status in ((1, 500), (2, 302)):
        assert (deliver_all(), deliver_all()) == (1, 0), "the next try waits"
        [shown] = api.get(path).json()["items"]
        assert (shown["state"], shown["num_tries"], shown["last_status_code"]) == ("pending", tries, status)
        assert shown["last_error"].startswith(errors[tries - 1])
        assert shown["next_try_at"] > shown["last_tried_at"]
        make_due(sessions)
    assert deliver_all() == 1
    [shown] = api.get(path).json()["items"]
    assert (shown["state"], shown["num_tries"], shown["last_status_code"]) == ("delivered", 3, 204)
    assert (shown["last_error"], shown["next_try_at"]) == (None, None)
    assert api.get(f"{path}/{shown['id']}").json() == shown
    assert len({(delivery.headers["webhook-id"], delivery.body) for delivery in receiver.heard}) == 1
    assert [delivery.path for delivery in receiver.heard] == ["/hook"] * 3


def test_a_delivery_fails_after_a_day_and_can_be_redelivered(
    api: TestClient, receiver: Receiver, add_job: AddJob, deliver_all: Do, sessions: Sessions
) -> None:
    hook = add_webhook(api, receiver)
    api.post(f"/jobs/{add_job().id}/cancel")
    path = f"/webhooks/{hook['id']}/deliveries"
    [waiting] = api.get(path).json()["items"]
    again = f"{path}/{waiting['id']}/redeliver"
    assert api.post(again).json()["code"] == "delivery_pending"
    with transaction(sessions) as session:
        session.execute(update(WebhookDelivery).values(give_up_at=func.clock_timestamp() + timedelta(seconds=1)))
    receiver.statuses = [503]
    assert deliver_all() == 1
    [shown] = api.get(path).json()["items"]
    assert (shown["state"], shown["last_status_code"], shown["next_try_at"]) == ("failed", 503, None)
    assert shown["ended_at"]
    key = {"Idempotency-Key": "again"}
    made = api.post(again, headers=key)
    assert (made.status_code, api.post(again, headers=key).json()) == (202, made.json())
    assert deliver_all() == 1
    assert api.get(made.headers["location"]).json()["state"] == "delivered"
    assert len({(delivery.headers["webhook-id"], delivery.body) for delivery in receiver.heard}) == 1
    newest, oldest = api.get(path).json()["items"]
    assert (newest["id"], oldest["id"]) == (made.json()["id"], waiting["id"])
    page = api.get(path, params={"limit": 1}).json()
    assert api.get(path, params={"cursor": page["next_cursor"]}).json()["items"] == [oldest]


def test_waits_grow_to_two_hours() -> None:
    waits = [wait_after(tries) for tries in range(1, 40)]
    assert 2.5 <= waits[0] <= 7.5
    assert all(LONGEST_WAIT_SECONDS / 2 <= wait <= LONGEST_WAIT_SECONDS * 1.5 for wait in waits[12:])
    assert len(set(waits)) == len(waits)


def test_both_secrets_sign_during_the_grace_period(
    api: TestClient, receiver: Receiver, deliver_all: Do, sessions: Sessions
) -> None:
    hook = add_webhook(api, receiver)
    test = f"/webhooks/{hook['id']}/test"
    key = {"Idempotency-Key": "rotation"}
    new = api.post(f"/webhooks/{hook['id']}/rotate", headers=key)
    assert api.post(f"/webhooks/{hook['id']}/rotate", headers=key).json() == new.json(), "the secret is rotated once"
    assert (new.status_code, new.json()["secret"] != hook["secret"]) == (200, True)
    assert api.post(test).status_code == 202
    assert deliver_all() == 1
    for secret in (hook["secret"], new.json()["secret"]):
        event = unwrap(receiver.heard[-1], secret)
        assert (event.type, event.data.id) == ("webhook.test", hook["id"])
    with transaction(sessions) as session:
        session.execute(update(Webhook).values(previous_secret_expires_at=func.clock_timestamp()))
    api.post(test)
    deliver_all()
    assert unwrap(receiver.heard[-1], new.json()["secret"])
    with pytest.raises(InvalidWebhookSignatureError):
        unwrap(receiver.heard[-1], hook["secret"])
    assert api.post(f"/webhooks/{hook['id']}/rotate", params={"grace_seconds": 0}).status_code == 200
    api.post(test)
    deliver_all()
    with pytest.raises(InvalidWebhookSignatureError):
        unwrap(receiver.heard[-1], new.json()["secret"])


def test_a_secret_is_shown_once(api: TestClient, receiver: Receiver) -> None:
    hook = add_webhook(api, receiver, name="deploys")
    secret = hook.pop("secret")
    assert secret.startswith("whsec_")
    [listed] = api.get("/webhooks").json()["items"]
    assert listed == api.get(f"/webhooks/{hook['id']}").json() == hook
    assert hook["events"] == [f"fine_tuning.job.{state}" for state in ("succeeded", "failed", "cancelled", "paused")]


def test_only_chosen_events_are_delivered_and_only_to_the_projects_webhooks(
    api: TestClient,
    receiver: Receiver,
    add_job: AddJob,
    deliver_all: Do,
    as_project: Callable[[str], dict[str, str]],
) -> None:
    other = api.post("/webhooks", json={"url": receiver.url}, headers=as_project("other")).json()
    hook = add_webhook(api, receiver, events=["fine_tuning.job.paused"])
    api.post(f"/jobs/{add_job().id}/cancel")
    assert deliver_all() == 0
    api.post(f"/jobs/{add_job().id}/pause")
    assert deliver_all() == 1
    assert api.get(f"/webhooks/{other['id']}").json()["code"] == "webhook_not_found"
    assert api.patch(f"/webhooks/{hook['id']}", json={"enabled": False, "name": None}).json()["enabled"] is False
    api.post(f"/jobs/{add_job().id}/pause")
    assert api.post(f"/webhooks/{hook['id']}/test").json()["code"] == "webhook_disabled"
    changed = api.patch(f"/webhooks/{hook['id']}", json={"enabled": True, "url": f"{receiver.url}/2"}).json()
    assert (changed["enabled"], changed["url"], changed["events"]) == (True, f"{receiver.url}/2", hook["events"])
    assert deliver_all() == 0, "events of a disabled webhook are not delivered"
    api.post(f"/webhooks/{hook['id']}/test")
    assert api.delete(f"/webhooks/{hook['id']}").status_code == 204
    assert deliver_all() == 0
    assert api.get("/webhooks").json()["items"] == []


def test_an_undeliverable_webhook_is_refused(api: TestClient, receiver: Receiver) -> None:
    hook = add_webhook(api, receiver)
    for url, code in (
        ("http://10.0.0.1/", "address_refused"),
        ("http://[::1]/", "address_refused"),
        ("ftp://127.0.0.1/", "bad_scheme"),
        ("http://a:b@127.0.0.1/", "credentials_in_url"),
        ("http://2130706433/", "bad_host"),
    ):
        for answer in (
            api.post("/webhooks", json={"url": url}),
            api.patch(f"/webhooks/{hook['id']}", json={"url": url}),
        ):
            [error] = answer.json()["errors"]
            found = answer.status_code, answer.json()["code"], error["pointer"], error["code"]
            assert found == (422, "invalid_webhook", "/url", code)
    for bad in ({}, {"url": ""}, {"url": receiver.url, "events": []}, {"url": receiver.url, "x": 1}, []):
        assert api.post("/webhooks", json=bad).status_code == 422
    bad_events = {"url": receiver.url, "events": ["batch.completed"]}
    assert api.post("/webhooks", json=bad_events).json()["code"] == "invalid_request"
    for _ in range(49):
        add_webhook(api, receiver)
    assert api.post("/webhooks", json={"url": receiver.url}).json()["code"] == "too_many_webhooks"


def test_a_url_whose_address_is_later_not_public_is_refused_at_the_delivery(
    api: TestClient, receiver: Receiver, deliver_all: Do, sessions: Sessions
) -> None:
    hook = add_webhook(api, receiver)
    with transaction(sessions) as session:
        unspecified_url = receiver.url.replace("127.0.0.1", "0.0.0.0")  # noqa: S104 - binds nothing
        session.execute(update(Webhook).values(url=unspecified_url))
    shown = api.post(f"/webhooks/{hook['id']}/test").json()
    assert deliver_all() == 1
    assert receiver.heard == [], "the receiver listens on that address too"
    shown = api.get(f"/webhooks/{hook['id']}/deliveries/{shown['id']}").json()
    assert (shown["state"], shown["last_status_code"]) == ("pending", None)
    assert "is not public" in shown["last_error"]


def test_a_slow_receiver_delays_no_other(
    api: TestClient, receiver: Receiver, settings: Settings, sessions: Sessions
) -> None:
    slow = add_webhook(api, receiver)
    receiver.delay = 5
    sender = WebhookSender(settings.model_copy(update={"webhook_timeout_seconds": 0.5}), sessions, threading.Event())
    with Receiver().serving() as quick:
        other = add_webhook(api, quick)
        for id in (slow["id"], slow["id"], other["id"]):
            api.post(f"/webhooks/{id}/test")
        sender.send_due(threading.Event())
        until = time.monotonic() + 60
        while not (receiver.heard and quick.heard):
            assert time.monotonic() < until
            time.sleep(0.01)
        assert (len(receiver.heard), len(quick.heard)) == (1, 1)
    sender.close()
    path = f"/webhooks/{slow['id']}/deliveries"
    [waiting, tried] = api.get(path).json()["items"]
    assert api.get(path, params={"state": "pending"}).json()["items"] == [waiting, tried]
    assert api.get(path, params={"status": "delivered"}).json()["items"] == []
    assert (tried["last_status_code"], tried["last_error"]) == (None, "No response within 0.5 s.")
    assert waiting["num_tries"] == 0, "the next delivery starts after the first one has ended"


def test_a_webhook_gets_one_event_at_a_time_and_no_project_occupies_all_senders(
    api: TestClient,
    receiver: Receiver,
    sessions: Sessions,
    as_project: Callable[[str], dict[str, str]],
) -> None:
    for _ in range(5):
        hook = add_webhook(api, receiver)
        for _ in range(2):
            api.post(f"/webhooks/{hook['id']}/test")
    other = as_project("other")
    theirs = api.post("/webhooks", json={"url": receiver.url}, headers=other).json()["id"]

    def claim() -> str | None:
        with transaction(sessions) as session:
            taken = WebhookRepository(session).claim(60)
            return taken.delivery.webhook_id if taken else None

    held = {claim() for _ in range(4)}
    assert len(held) == 4
    assert claim() is None, "the project occupies its share of the senders"
    api.post(f"/webhooks/{theirs}/test", headers=other)
    assert (claim(), claim()) == (theirs, None)


def test_a_dead_workers_delivery_is_retried_after_its_lease_and_its_late_result_is_ignored(
    api: TestClient, receiver: Receiver, sessions: Sessions, deliver_all: Do
) -> None:
    hook = add_webhook(api, receiver)
    api.post(f"/webhooks/{hook['id']}/test")
    with transaction(sessions) as session:
        lost = WebhookRepository(session).claim(60)
    assert lost is not None
    assert deliver_all() == 0
    with transaction(sessions) as session:
        session.execute(update(Webhook).values(leased_until=func.clock_timestamp() - timedelta(seconds=1)))
    receiver.statuses = [500]
    assert deliver_all() == 1
    with transaction(sessions) as session:
        webhooks = WebhookRepository(session)
        assert not webhooks.conclude(lost, delivered=True, status=200, error=None, wait=1)
    [shown] = api.get(f"/webhooks/{hook['id']}/deliveries").json()["items"]
    assert (shown["state"], shown["num_tries"], shown["last_status_code"]) == ("pending", 2, 500)


def test_deliveries_are_deleted_after_a_week(
    api: TestClient, receiver: Receiver, sessions: Sessions, settings: Settings
) -> None:
    hook = add_webhook(api, receiver)
    for _ in range(2):
        api.post(f"/webhooks/{hook['id']}/test")
    [_, old] = api.get(f"/webhooks/{hook['id']}/deliveries").json()["items"]
    with transaction(sessions) as session:
        aged = update(WebhookDelivery).where(WebhookDelivery.id == old["id"])
        session.execute(aged.values(created_at=func.clock_timestamp() - timedelta(days=8)))
    Collector(settings, sessions, Storage(settings.storage)).retain()
    [left] = api.get(f"/webhooks/{hook['id']}/deliveries").json()["items"]
    assert left["id"] != old["id"]


def test_a_recovered_job_is_delivered_like_any_other(
    api: TestClient, receiver: Receiver, add_job: AddJob, deliver_all: Do, sessions: Sessions, project_id: str
) -> None:
    """Recovery changes states through `move`, like every caller."""
    add_webhook(api, receiver)
    job = add_job()
    claim_job(sessions)
    api.post(f"/jobs/{job.id}/pause")
    assert deliver_all() == 0, "the job is still pausing"
    with transaction(sessions) as session:
        session.execute(update(Job).values(lease_until=func.to_timestamp(0)))
    with transaction(sessions) as session:
        QueueService(session).recover_lost_work()
    assert deliver_all() == 1
    assert json.loads(receiver.heard[0].body)["type"] == "fine_tuning.job.paused"
    with transaction(sessions) as session:
        JobRepository(session).append_events(
            JobService(session).get(project_id, job.id), [JobFailed(reason=FailureReason.stalled, detail="x")]
        )
    assert deliver_all() == 0, "a webhook reports a state, not an event"
