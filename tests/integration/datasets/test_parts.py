"""Uploads in parts are begun, completed or refused."""

import hashlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.db.session import Sessions, transaction
from app.db.tables import OutboxRow
from app.dispatcher import Dispatcher
from app.domain.ids import is_id
from app.settings import Settings
from tests.integration.datasets.conftest import DATA, Begin, Files, Send, cut, refusal
from tests.integration.datasets.test_put import digest_of


def test_parts_in_any_order_become_a_dataset(
    api: TestClient,
    begin: Begin,
    send: Send,
    join_all: Callable[[], int],
    inspect_all: Callable[[], int],
    stored_files: Files,
    sessions: Sessions,
    settings: Settings,
) -> None:
    id = begin(expires_after_seconds=3600, format="prompt_completion")
    assert is_id(id, "upload")
    chunks = cut(DATA, 1000)
    order = list(range(len(chunks)))
    random.Random(0).shuffle(order)
    with ThreadPoolExecutor(4) as pool:
        ids = dict(zip(order, pool.map(lambda index: send(id, chunks[index]), order), strict=True))
    shown = api.get(f"/uploads/{id}").json()
    assert (shown["state"], shown["bytes"], shown["dataset_id"]) == ("pending", len(DATA), None)
    assert {part["id"]: (part["bytes"], part["sha256"]) for part in shown["parts"]} == {
        ids[index]: (len(chunk), hashlib.sha256(chunk).hexdigest()) for index, chunk in enumerate(chunks)
    }
    assert all(is_id(part_id, "part") for part_id in ids.values())
    with transaction(sessions) as session:
        assert session.scalars(select(OutboxRow)).all() == []

    wanted = {"part_ids": [ids[index] for index in range(len(chunks))], "md5": hashlib.md5(DATA).hexdigest().upper()}
    answer = api.post(f"/uploads/{id}/complete", json=wanted)
    assert answer.status_code == 200, answer.text
    completed = answer.json()
    assert completed["state"] == "completed"
    url = f"/datasets/{completed['dataset_id']}"
    dataset = api.get(url).json()
    assert (dataset["state"], dataset["bytes"], dataset["sha256"]) == ("uploading", len(DATA), None)
    assert dataset["format"] == "prompt_completion"
    assert datetime.fromisoformat(dataset["expires_at"]) - datetime.fromisoformat(dataset["created_at"]) == timedelta(
        hours=1
    )
    assert refusal(api.get(f"{url}/content")) == (409, "dataset_uploading")
    assert inspect_all() == 0
    with transaction(sessions) as session:
        assert session.scalars(select(OutboxRow.queue)).all() == ["light"]

    assert join_all() == 1
    dataset = api.get(url).json()
    assert (dataset["state"], dataset["sha256"]) == ("inspecting", hashlib.sha256(DATA).hexdigest())
    assert api.get(f"{url}/content").content == DATA
    assert inspect_all() == 1
    assert api.get(url).json()["state"] == "ready"
    assert api.get(f"/uploads/{id}").json()["parts"] == []
    Dispatcher(settings, sessions).collect()
    dataset_id = completed["dataset_id"]
    assert sorted(path.name for path in stored_files()) == [dataset_id, f"{dataset_id}.1.hashes"]
    assert join_all() == 0


def test_a_repeated_completion_gets_the_same_answer(
    api: TestClient, begin: Begin, send: Send, join_all: Callable[[], int]
) -> None:
    id = begin(size=6)
    first, second = send(id, b"abc"), send(id, b"def")
    wanted = {"part_ids": [second, first]}
    answers = [api.post(f"/uploads/{id}/complete", json=wanted).json() for _ in range(2)]
    join_all()
    answers.append(api.post(f"/uploads/{id}/complete", json=wanted).json())
    assert {answer["dataset_id"] for answer in answers} == {answers[0]["dataset_id"]}
    assert api.get(f"/datasets/{answers[0]['dataset_id']}/content").content == b"defabc"
    other = {"part_ids": [first, second]}
    assert refusal(api.post(f"/uploads/{id}/complete", json=other)) == (409, "upload_not_pending")
    assert refusal(api.post(f"/uploads/{id}/complete", json=wanted | {"md5": "0" * 32})) == (409, "upload_not_pending")
    assert refusal(api.post(f"/uploads/{id}/parts", content=b"x")) == (409, "upload_not_pending")
    assert refusal(api.post(f"/uploads/{id}/cancel")) == (409, "upload_not_pending")
    assert len(api.get("/datasets").json()["items"]) == 1


def test_concurrent_completions_make_one_dataset(api: TestClient, begin: Begin, send: Send) -> None:
    id = begin(size=3)
    wanted = {"part_ids": [send(id, b"abc")]}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: api.post(f"/uploads/{id}/complete", json=wanted), range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["dataset_id"] for answer in answers}) == 1
    assert len(api.get("/datasets").json()["items"]) == 1


def test_a_part_may_be_used_twice(api: TestClient, begin: Begin, send: Send, join_all: Callable[[], int]) -> None:
    id = begin(size=6)
    same = send(id, b"ab\n")
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": [same, same]}).json()
    join_all()
    assert api.get(f"/datasets/{made['dataset_id']}/content").content == b"ab\nab\n"


def test_parts_that_do_not_make_up_the_file_are_refused(api: TestClient, begin: Begin, send: Send) -> None:
    id, other = begin(size=6), begin(size=6)
    first, other_part = send(id, b"abc"), send(other, b"def")
    for part_ids in (
        [first],
        [first, first, first],
        [first, other_part],
        [first, "part_" + "0" * 24],
    ):
        answer = api.post(f"/uploads/{id}/complete", json={"part_ids": part_ids})
        assert refusal(answer) == (422, "invalid_upload_parts"), part_ids
    assert "3 bytes" in api.post(f"/uploads/{id}/complete", json={"part_ids": [first]}).json()["detail"]
    assert api.get(f"/uploads/{id}").json()["state"] == "pending", "it can still be completed"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"bytes": 0, "filename": "a"},
        {"bytes": -1, "filename": "a"},
        {"bytes": "9", "filename": "a"},
        {"bytes": 1.5, "filename": "a"},
        {"bytes": 9},
        {"bytes": 9, "filename": ""},
        {"bytes": 9, "filename": 7},
        {"bytes": 9, "filename": "a", "purpose": "fine-tune"},
        {"bytes": 9, "filename": "a", "format": "poem"},
        {"bytes": 9, "filename": "a", "expires_after_seconds": 0},
        [],
    ],
)
def test_an_invalid_upload_is_refused(api: TestClient, body: Any) -> None:
    answer = api.post("/uploads", json=body)
    assert refusal(answer) == (422, "invalid_request")
    assert answer.json()["errors"]


def test_unsafe_characters_are_refused_or_removed(api: TestClient, begin: Begin) -> None:
    json = {"Content-Type": "application/json"}
    answer = api.post("/uploads", headers=json, content=b'{"bytes": 1, "filename": "a\\ud800b"}')
    assert refusal(answer) == (422, "invalid_request")
    answer = api.post(f"/uploads/{begin()}/complete", headers=json, content=b'{"part_ids": ["\\ud800"]}')
    assert refusal(answer) == (422, "invalid_upload_parts")
    id = begin(filename="../a\u202egnp.\u2067csv")
    assert api.get(f"/uploads/{id}").json()["filename"] == "agnp.csv"


def test_an_upload_larger_than_the_limit_is_refused(api: TestClient, settings: Settings) -> None:
    body = {"bytes": settings.max_upload_bytes + 1, "filename": "a"}
    assert refusal(api.post("/uploads", json=body)) == (413, "too_large")


@pytest.mark.parametrize("body", [{}, {"part_ids": []}, {"part_ids": "x"}, {"part_ids": ["x"], "md5": "z"}])
def test_an_invalid_completion_is_refused(api: TestClient, begin: Begin, body: Any) -> None:
    assert refusal(api.post(f"/uploads/{begin()}/complete", json=body)) == (422, "invalid_request")


def test_a_body_that_cannot_be_a_part_is_refused(api: TestClient, begin: Begin, stored_files: Files) -> None:
    id = begin()
    url = f"/uploads/{id}/parts"
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert refusal(api.post(url, headers=form, content=b"x")) == (415, "unsupported_media_type")
    assert refusal(api.post(url, content=b"")) == (400, "bad_request")
    assert refusal(api.post(url, headers={"Content-Digest": digest_of(b"y")}, content=b"x")) == (400, "digest_mismatch")
    assert refusal(api.post(url, content=b"x" * (64 * 2**20 + 1))) == (413, "too_large")
    assert stored_files() == []
    assert api.get(f"/uploads/{id}").json()["parts"] == []


def test_an_upload_has_a_maximum_number_of_parts(
    api: TestClient, begin: Begin, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.uploads.service.MAX_PARTS", 3)
    id = begin(size=9)
    for _ in range(3):
        send(id, b"abc")
    refused = api.post(f"/uploads/{id}/parts", content=b"abc")
    assert refusal(refused) == (413, "too_large")
    assert "3 parts with 9 bytes" in refused.json()["detail"]
