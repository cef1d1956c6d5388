"""Tests that a job names the API key that created it, and that jobs can be found by it and by their names."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, update

from app.db.session import Sessions, transaction
from app.db.tables import ApiKey, Job
from tests.fixtures.openai_client import check_answered
from tunewright import Client

Spec = Callable[..., dict[str, Any]]
MakeKey = Callable[..., str]


def id_of(key: str) -> str:
    return f"key-{key[3:27]}"


@pytest.fixture
def create(server: TestClient, make_spec: Spec) -> Callable[..., dict[str, Any]]:
    def post(key: str, **fields: Any) -> dict[str, Any]:
        answer = server.post("/jobs", json=make_spec(**fields), headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    return post


@pytest.fixture
def listed(api: TestClient) -> Callable[..., list[str]]:
    def find(**params: str) -> list[str]:
        answer = api.get("/jobs", params=params)
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    return find


def test_a_job_names_its_key_wherever_it_is_shown(
    api: TestClient, create: Callable[..., dict[str, Any]], make_key: MakeKey
) -> None:
    key = make_key()
    job = create(key)
    assert job["created_by"] == {"key_id": id_of(key), "key_name": "test"}
    assert api.get(f"/jobs/{job['id']}").json()["created_by"] == job["created_by"]
    assert api.get("/jobs").json()["items"][0]["created_by"] == job["created_by"]


def test_a_retry_names_the_key_that_asked_for_it(
    server: TestClient, sessions: Sessions, create: Callable[..., dict[str, Any]], make_key: MakeKey
) -> None:
    first, second = make_key(), make_key()
    id = create(first)["id"]
    server.post(f"/jobs/{id}/cancel", headers={"Authorization": f"Bearer {first}"})
    retried = server.post(f"/jobs/{id}/retry", headers={"Authorization": f"Bearer {second}"})
    assert retried.json()["created_by"]["key_id"] == id_of(second)


def test_a_job_made_through_v1_names_its_key(
    api: TestClient, make_dataset: Callable[..., str], base_model: str, make_key: MakeKey
) -> None:
    key = make_key()
    body = {"model": base_model, "training_file": make_dataset()}
    answer = api.post("/v1/fine_tuning/jobs", json=body, headers={"Authorization": f"Bearer {key}"})
    check_answered(answer)
    assert api.get(f"/jobs/{answer.json()['id']}").json()["created_by"]["key_id"] == id_of(key)


def test_a_browsers_session_creates_jobs_in_the_name_of_its_key(
    server: TestClient, make_spec: Spec, make_key: MakeKey
) -> None:
    key, origin = make_key(), {"Origin": "http://testserver"}
    assert server.post("/session", json={"key": key}, headers=origin).status_code == 201
    answer = server.post("/jobs", json=make_spec(), headers=origin)
    assert answer.json()["created_by"]["key_id"] == id_of(key)


def test_a_job_outlives_its_key(
    api: TestClient, sessions: Sessions, create: Callable[..., dict[str, Any]], make_key: MakeKey
) -> None:
    key = make_key()
    id = create(key)["id"]
    with transaction(sessions) as session:
        session.execute(delete(ApiKey).where(ApiKey.id == id_of(key)))
    assert api.get(f"/jobs/{id}").json()["created_by"] is None


def test_a_key_that_is_deleted_during_its_request_is_unauthorized(
    api: TestClient, sessions: Sessions, make_spec: Spec
) -> None:
    """The server recognizes a key for a moment after its row is gone."""
    spec = make_spec()
    assert api.get("/jobs").status_code == 200
    with transaction(sessions) as session:
        session.execute(delete(ApiKey))
    answer = api.post("/jobs", json=spec)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_a_job_without_a_recorded_key_is_shown(api: TestClient, post: Callable[..., str]) -> None:
    assert api.get(f"/jobs/{post()}").json()["created_by"] is None


def test_jobs_are_found_by_their_key(
    create: Callable[..., dict[str, Any]], make_key: MakeKey, listed: Callable[..., list[str]]
) -> None:
    first, second = make_key(), make_key()
    ids = [create(key)["id"] for key in (first, second, first)]
    assert listed(created_by=id_of(first)) == [ids[2], ids[0]]
    assert listed(created_by=id_of(second), state="queued") == [ids[1]]
    assert listed(created_by="key-none") == []


def test_jobs_are_found_by_a_part_of_their_name_or_the_beginning_of_their_id(
    post: Callable[..., str], listed: Callable[..., list[str]]
) -> None:
    named = {name: post(name=name) for name in ("Support-replies 1", "100% more_replies", "straße")}
    unnamed = post()
    assert listed(name="support") == [named["Support-replies 1"]]
    assert listed(name="REPLIES") == [named["100% more_replies"], named["Support-replies 1"]]
    assert listed(name="%") == [named["100% more_replies"]]
    assert listed(name="e_r") == [named["100% more_replies"]]
    assert listed(name=named["straße"]) == [named["straße"]]
    assert listed(name=unnamed[:14]) == [unnamed]
    assert listed(name=unnamed[8:]) == []
    assert len(listed(name="ftjob-")) == 4
    assert listed(name="none of them") == []


def test_a_page_of_found_jobs_is_continued(api: TestClient, post: Callable[..., str]) -> None:
    ids = [post(name=f"tuned {number}") for number in range(5)]
    post(name="other")
    found, cursor = [], None
    while True:
        page = api.get("/jobs", params={"name": "tuned", "limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        found += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == ids[::-1]


def test_an_empty_name_is_refused(api: TestClient) -> None:
    assert api.get("/jobs?name=").status_code == 422


def test_the_client_finds_jobs_by_key_and_name(
    live_server: str, make_spec: Spec, make_key: MakeKey, sessions: Sessions
) -> None:
    key = make_key()
    with Client(live_server, key) as client:
        job = client.create_job(**make_spec(name="support"))
        assert job.created_by == {"key_id": id_of(key), "key_name": "test"}
        assert [each.id for each in client.list_jobs(created_by=id_of(key), name="SUPP")] == [job.id]
        assert list(client.list_jobs(name="none")) == []
        with transaction(sessions) as session:
            session.execute(update(Job).values(created_by_key_id=None))
        assert client.get_job(job.id).created_by is None
