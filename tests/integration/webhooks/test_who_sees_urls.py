"""A webhook's URL, in whose path some receivers have a secret, is shown to keys with the scope `webhooks` alone."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.domain.caller import ADMIN, SCOPES
from tests.fixtures.receiver import Receiver

CANARY = "T024BE7LH-canary-qGz7"
MakeKey = Callable[..., str]


@pytest.fixture
def url(receiver: Receiver) -> str:
    return f"{receiver.url}/{CANARY}?key={CANARY}"


@pytest.fixture
def masked(receiver: Receiver) -> str:
    return receiver.url.removesuffix("/hook") + "/…"


def asked(api: TestClient, key: str, method: str, path: str, **more: Any) -> Any:
    answer = api.request(method, path, headers={"Authorization": f"Bearer {key}"} | more.pop("headers", {}), **more)
    assert answer.status_code < 300, answer.text
    return answer.json()


def test_a_key_without_the_scope_sees_the_host_alone(
    api: TestClient, make_key: MakeKey, url: str, masked: str, receiver: Receiver, deliver_all: Callable[[], int]
) -> None:
    hook = api.post("/webhooks", json={"url": url}).json()
    receiver.statuses = [500]
    sent = api.post(f"/webhooks/{hook['id']}/test").json()
    assert deliver_all() == 1
    place = f"/webhooks/{hook['id']}"
    reading = ("/webhooks", place, f"{place}/deliveries", f"{place}/deliveries/{sent['id']}")
    reader = make_key("default", "read")
    for path in reading:
        assert CANARY not in json.dumps(asked(api, reader, "GET", path)), path
    assert asked(api, reader, "GET", place)["url"] == masked
    [listed] = asked(api, reader, "GET", "/webhooks")["items"]
    assert listed["url"] == masked
    writer = make_key("default", "read", "write")
    assert asked(api, writer, "PATCH", place, json={"name": "x"})["url"] == masked
    assert asked(api, writer, "POST", f"{place}/rotate")["url"] == masked
    assert asked(api, writer, "POST", "/webhooks", json={"url": url})["url"] == masked
    for scopes in (("read", "webhooks"), SCOPES, ADMIN):
        assert asked(api, make_key("default", *scopes), "GET", place)["url"] == url


def test_what_a_receiver_says_is_in_no_error(
    api: TestClient, make_key: MakeKey, receiver: Receiver, deliver_all: Callable[[], int], url: str
) -> None:
    """One that answers with what is no HTTP, and repeats the path."""
    hook = api.post("/webhooks", json={"url": url}).json()
    receiver.says = f"{CANARY}\r\n\r\n".encode()
    api.post(f"/webhooks/{hook['id']}/test")
    assert deliver_all() == 1
    reader = make_key("default", "read")
    [delivery] = asked(api, reader, "GET", f"/webhooks/{hook['id']}/deliveries")["items"]
    assert delivery["last_error"] == "BadStatusLine"
    assert CANARY not in json.dumps(delivery)


def test_an_answer_that_is_given_again_is_the_same_keys_alone(api: TestClient, make_key: MakeKey, url: str) -> None:
    """It shows the webhook's secret, and its whole URL."""
    once = {"Idempotency-Key": "mine"}
    hook = api.post("/webhooks", json={"url": url}).json()
    first, again = (api.post(f"/webhooks/{hook['id']}/rotate", headers=once) for _ in range(2))
    assert first.json() == again.json()
    other = {"Authorization": f"Bearer {make_key('default', 'read', 'write')}"}
    answer = api.post(f"/webhooks/{hook['id']}/rotate", headers=once | other)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
