"""Tests that only keys with the scope `webhooks` see a webhook's whole URL, whose path may contain a secret."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.domain.caller import ADMIN, SCOPES
from tests.fixtures.receiver import Receiver

MARKER = "T024BE7LH-canary-qGz7"
MakeKey = Callable[..., str]


@pytest.fixture
def url(receiver: Receiver) -> str:
    return f"{receiver.url}/{MARKER}?key={MARKER}"


@pytest.fixture
def masked(receiver: Receiver) -> str:
    return receiver.url.removesuffix("/hook") + "/…"


def request_json(api: TestClient, key: str, method: str, path: str, **more: Any) -> Any:
    answer = api.request(method, path, headers={"Authorization": f"Bearer {key}"} | more.pop("headers", {}), **more)
    assert answer.status_code < 300, answer.text
    return answer.json()


def test_a_key_without_the_scope_sees_only_the_host(
    api: TestClient, make_key: MakeKey, url: str, masked: str, receiver: Receiver, deliver_all: Callable[[], int]
) -> None:
    hook = api.post("/webhooks", json={"url": url}).json()
    receiver.statuses = [500]
    sent = api.post(f"/webhooks/{hook['id']}/test").json()
    assert deliver_all() == 1
    webhook_path = f"/webhooks/{hook['id']}"
    paths = ("/webhooks", webhook_path, f"{webhook_path}/deliveries", f"{webhook_path}/deliveries/{sent['id']}")
    reader = make_key("default", "read")
    for path in paths:
        assert MARKER not in json.dumps(request_json(api, reader, "GET", path)), path
    assert request_json(api, reader, "GET", webhook_path)["url"] == masked
    [listed] = request_json(api, reader, "GET", "/webhooks")["items"]
    assert listed["url"] == masked
    writer = make_key("default", "read", "write")
    assert request_json(api, writer, "PATCH", webhook_path, json={"name": "x"})["url"] == masked
    assert request_json(api, writer, "POST", f"{webhook_path}/rotate")["url"] == masked
    assert request_json(api, writer, "POST", "/webhooks", json={"url": url})["url"] == masked
    for scopes in (("read", "webhooks"), SCOPES, ADMIN):
        assert request_json(api, make_key("default", *scopes), "GET", webhook_path)["url"] == url


def test_a_receivers_response_is_in_no_error(
    api: TestClient, make_key: MakeKey, receiver: Receiver, deliver_all: Callable[[], int], url: str
) -> None:
    """The receiver's response is not HTTP and repeats the path."""
    hook = api.post("/webhooks", json={"url": url}).json()
    receiver.says = f"{MARKER}\r\n\r\n".encode()
    api.post(f"/webhooks/{hook['id']}/test")
    assert deliver_all() == 1
    reader = make_key("default", "read")
    [delivery] = request_json(api, reader, "GET", f"/webhooks/{hook['id']}/deliveries")["items"]
    assert delivery["last_error"] == "BadStatusLine"
    assert MARKER not in json.dumps(delivery)


def test_a_repeated_request_gets_its_answer_again_only_with_the_same_key(
    api: TestClient, make_key: MakeKey, url: str
) -> None:
    """The answer contains the webhook's secret and its whole URL."""
    once = {"Idempotency-Key": "mine"}
    hook = api.post("/webhooks", json={"url": url}).json()
    first, again = (api.post(f"/webhooks/{hook['id']}/rotate", headers=once) for _ in range(2))
    assert first.json() == again.json()
    other = {"Authorization": f"Bearer {make_key('default', 'read', 'write')}"}
    answer = api.post(f"/webhooks/{hook['id']}/rotate", headers=once | other)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
