"""Kills the server, the light worker and the dispatcher at failpoints of webhooks and their deliveries."""

import json
from collections.abc import Callable

from sqlalchemy import func, update

from app.db.session import transaction
from app.db.tables import WebhookDelivery
from tests.chaos.harness import Harness, both
from tests.chaos.server_cases import RETAIN
from tests.fixtures.receiver import Receiver


def hooks(harness: Harness) -> set[str]:
    return {webhook.id for webhook in harness.client.list_webhooks()}


def post_webhook(harness: Harness, step: str) -> None:
    """Kill the server during each request that changes a webhook."""
    with Receiver().serving() as receiver:
        was = hooks(harness)
        harness.kill_during("before_post_webhook", lambda: harness.client.create_webhook(receiver.url))
        assert hooks(harness) == was
        harness.kill_during("after_post_webhook", lambda: harness.client.create_webhook(receiver.url))
        [id] = hooks(harness) - was
        change_webhook(harness, id)
        send_test(harness, id, receiver)
        kill_before_and_after(
            harness, "delete_webhook", lambda: harness.client.delete_webhook(id), lambda: hooks(harness) == was
        )


def change_webhook(harness: Harness, id: str) -> None:
    def grace() -> object:
        return harness.client.get_webhook(id).previous_secret_expires_at

    def is_renamed() -> bool:
        return harness.client.get_webhook(id).name == "renamed"

    kill_before_and_after(
        harness, "change_webhook", lambda: harness.client.change_webhook(id, name="renamed"), is_renamed
    )
    kill_before_and_after(
        harness, "rotate_webhook", lambda: harness.client.rotate_webhook(id), lambda: grace() is not None
    )


def send_test(harness: Harness, id: str, receiver: Receiver) -> None:
    def count(expected: int) -> Callable[[], bool]:
        return lambda: len(list(harness.client.list_deliveries(id))) == expected

    kill_before_and_after(harness, "send_test", lambda: harness.client.send_test_event(id), count(1))
    harness.stack.wait(lambda: len(receiver.heard) == 1, "the test was sent")
    [sent] = harness.client.list_deliveries(id)
    harness.stack.wait(
        lambda: harness.client.get_delivery(id, sent.id).state == "delivered", "the delivery is recorded"
    )
    kill_before_and_after(harness, "redeliver", lambda: harness.client.redeliver(id, sent.id), count(2))
    harness.stack.wait(lambda: len(receiver.heard) == 2, "it was sent again")


def kill_before_and_after(harness: Harness, step: str, act: Callable[[], object], is_done: Callable[[], bool]) -> None:
    harness.kill_during(f"before_{step}", act)
    assert not is_done(), step
    harness.kill_during(f"after_{step}", act)
    assert is_done(), step


def deliver(harness: Harness, step: str) -> None:
    """Kill the light worker twice. The job's end is still delivered, and repeated deliveries are identical."""
    with Receiver().serving() as receiver:
        webhook = harness.client.create_webhook(receiver.url)
        job = harness.post()
        with harness.stack.paused("light"):
            harness.end(job.id)
            harness.arm(step)
        harness.wait_until_fired(*both(step))

        def delivered() -> bool:
            return [each.state for each in harness.client.list_deliveries(webhook.id)] == ["delivered"]

        harness.stack.wait(delivered, "it is delivered")
        assert len({(heard.headers["webhook-id"], heard.body) for heard in receiver.heard}) == 1
        event = json.loads(receiver.heard[0].body)
        assert (event["type"], event["data"]) == ("fine_tuning.job.succeeded", {"id": job.id})
        harness.client.delete_webhook(webhook.id)


def forget_deliveries(harness: Harness, step: str) -> None:
    with Receiver().serving() as receiver, harness.stack.paused("dispatcher"):
        webhook = harness.client.create_webhook(receiver.url)
        harness.client.send_test_event(webhook.id)
        with transaction(harness.sessions) as session:
            session.execute(update(WebhookDelivery).values(created_at=func.to_timestamp(0)))
        assert harness.run("-c", RETAIN, failpoint="before_forget_deliveries") == -9
        assert len(list(harness.client.list_deliveries(webhook.id))) == 1
        assert harness.run("-c", RETAIN, failpoint="after_forget_deliveries") == -9
        assert not list(harness.client.list_deliveries(webhook.id))
        harness.client.delete_webhook(webhook.id)
