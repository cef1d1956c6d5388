"""What becomes of webhooks and their deliveries when the server, the light worker or the dispatcher is killed."""

import json
from collections.abc import Callable

from sqlalchemy import func, update

from app.db.session import transaction
from app.db.tables import WebhookDelivery
from tests.chaos.server_cases import RETAIN
from tests.chaos.stage import Stage, both
from tests.fixtures.receiver import Receiver


def hooks(stage: Stage) -> set[str]:
    return {webhook.id for webhook in stage.client.list_webhooks()}


def post_webhook(stage: Stage, step: str) -> None:
    """And all else that a user may do with one."""
    with Receiver().serving() as receiver:
        was = hooks(stage)
        stage.unanswered("before_post_webhook", lambda: stage.client.create_webhook(receiver.url))
        assert hooks(stage) == was
        stage.unanswered("after_post_webhook", lambda: stage.client.create_webhook(receiver.url))
        [id] = hooks(stage) - was
        change_webhook(stage, id)
        send_test(stage, id, receiver)
        killed_twice(stage, "delete_webhook", lambda: stage.client.delete_webhook(id), lambda: hooks(stage) == was)


def change_webhook(stage: Stage, id: str) -> None:
    def grace() -> object:
        return stage.client.get_webhook(id).previous_secret_expires_at

    def is_renamed() -> bool:
        return stage.client.get_webhook(id).name == "renamed"

    killed_twice(stage, "change_webhook", lambda: stage.client.change_webhook(id, name="renamed"), is_renamed)
    killed_twice(stage, "rotate_webhook", lambda: stage.client.rotate_webhook(id), lambda: grace() is not None)


def send_test(stage: Stage, id: str, receiver: Receiver) -> None:
    def count(expected: int) -> Callable[[], bool]:
        return lambda: len(list(stage.client.list_deliveries(id))) == expected

    killed_twice(stage, "send_test", lambda: stage.client.send_test_event(id), count(1))
    stage.stack.wait(lambda: len(receiver.heard) == 1, "the test was sent")
    [sent] = stage.client.list_deliveries(id)
    stage.stack.wait(lambda: stage.client.get_delivery(id, sent.id).state == "delivered", "and that is known")
    killed_twice(stage, "redeliver", lambda: stage.client.redeliver(id, sent.id), count(2))
    stage.stack.wait(lambda: len(receiver.heard) == 2, "it was sent again")


def killed_twice(stage: Stage, step: str, act: Callable[[], object], is_done: Callable[[], bool]) -> None:
    stage.unanswered(f"before_{step}", act)
    assert not is_done(), step
    stage.unanswered(f"after_{step}", act)
    assert is_done(), step


def deliver(stage: Stage, step: str) -> None:
    """The light worker dies, twice: a job's end is told all the same, and what is told again is the same."""
    with Receiver().serving() as receiver:
        webhook = stage.client.create_webhook(receiver.url)
        job = stage.post()
        with stage.stack.paused("light"):
            stage.end(job.id)
            stage.arm(step)
        stage.wait_until_fired(*both(step))

        def delivered() -> bool:
            return [each.state for each in stage.client.list_deliveries(webhook.id)] == ["delivered"]

        stage.stack.wait(delivered, "it is delivered")
        assert len({(heard.headers["webhook-id"], heard.body) for heard in receiver.heard}) == 1
        told = json.loads(receiver.heard[0].body)
        assert (told["type"], told["data"]) == ("fine_tuning.job.succeeded", {"id": job.id})
        stage.client.delete_webhook(webhook.id)


def forget_deliveries(stage: Stage, step: str) -> None:
    with Receiver().serving() as receiver, stage.stack.paused("dispatcher"):
        webhook = stage.client.create_webhook(receiver.url)
        stage.client.send_test_event(webhook.id)
        with transaction(stage.sessions) as session:
            session.execute(update(WebhookDelivery).values(created_at=func.to_timestamp(0)))
        assert stage.run("-c", RETAIN, failpoint="before_forget_deliveries") == -9
        assert len(list(stage.client.list_deliveries(webhook.id))) == 1
        assert stage.run("-c", RETAIN, failpoint="after_forget_deliveries") == -9
        assert not list(stage.client.list_deliveries(webhook.id))
        stage.client.delete_webhook(webhook.id)
