"""A POST that is repeated with its idempotency key creates one object and gets the same answer."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from app.db.session import Sessions, transaction
from app.db.tables import DatasetCheck, Job, KeptAnswer
from app.dispatcher import Dispatcher
from app.main import create_app
from app.settings import Settings
from app.web.idempotency_repository import KEPT, keep_answer, lock_key

Spec = Callable[..., dict[str, Any]]
KEY = {"Idempotency-Key": "nightly-1"}


def num_jobs(sessions: Sessions) -> int:
    with transaction(sessions) as session:
        return session.scalars(select(func.count()).select_from(Job)).one()


def age(sessions: Sessions, by: timedelta) -> None:
    with transaction(sessions) as session:
        session.execute(update(KeptAnswer).values(created_at=KeptAnswer.created_at - by))


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_repeated_request_gets_the_same_answer_and_creates_nothing(
    api: TestClient, sessions: Sessions, make_spec: Spec
) -> None:
    spec = make_spec()
    first = api.post("/jobs", json=spec, headers=KEY)
    assert first.status_code == 201
    api.post(f"/jobs/{first.json()['id']}/cancel")
    again = api.post("/jobs", json=spec, headers=KEY)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["location"] == first.headers["location"] == f"/jobs/{first.json()['id']}"
    assert again.headers["content-type"] == first.headers["content-type"] == "application/json"
    assert num_jobs(sessions) == 1


def test_an_answer_has_the_same_fields_with_and_without_a_key(api: TestClient, make_spec: Spec) -> None:
    spec = make_spec()
    plain, keyed = api.post("/jobs", json=spec), api.post("/jobs", json=spec, headers=KEY)
    assert plain.json().keys() == keyed.json().keys()
    assert api.get(keyed.headers["location"]).json() == keyed.json()


def test_every_request_without_a_key_or_with_another_one_creates_a_job(
    api: TestClient, sessions: Sessions, make_spec: Spec
) -> None:
    spec = make_spec()
    for headers in ({}, {}, KEY, {"Idempotency-Key": "nightly-2"}):
        assert api.post("/jobs", json=spec, headers=headers).status_code == 201
    assert num_jobs(sessions) == 4


def test_another_request_with_the_same_key_is_refused(api: TestClient, sessions: Sessions, make_spec: Spec) -> None:
    spec = make_spec()
    id = api.post("/jobs", json=spec, headers=KEY).json()["id"]
    api.post(f"/jobs/{id}/cancel")
    refused = (422, "idempotency_key_reused")
    assert refusal(api.post("/jobs", json=spec | {"name": "other"}, headers=KEY)) == refused
    assert refusal(api.post(f"/jobs/{id}/retry", headers=KEY)) == refused
    assert num_jobs(sessions) == 1


def test_a_retry_accepts_a_key(api: TestClient, sessions: Sessions, make_spec: Spec) -> None:
    id = api.post("/jobs", json=make_spec()).json()["id"]
    api.post(f"/jobs/{id}/cancel")
    first, again = (api.post(f"/jobs/{id}/retry", headers=KEY) for _ in range(2))
    assert (again.status_code, again.content, again.headers["location"]) == (
        201,
        first.content,
        first.headers["location"],
    )
    assert num_jobs(sessions) == 2


@pytest.mark.parametrize("noun", ["previews", "overlaps"])
def test_a_dataset_check_accepts_a_key(
    api: TestClient, sessions: Sessions, base_model: str, make_dataset: Callable[..., str], noun: str
) -> None:
    path, other = f"/datasets/{make_dataset()}/{noun}", make_dataset()
    asked = {"previews": {"base_model": base_model}, "overlaps": {"validation_dataset_id": other}}[noun]
    first = api.post(path, json=asked, headers=KEY)
    assert (first.status_code, first.headers["location"]) == (202, f"{path}/{first.json()['id']}")
    with transaction(sessions) as session:
        session.execute(update(DatasetCheck).values(state="failed", failure_code="file_missing", failure_message="-"))
    again = api.post(path, json=asked, headers=KEY)
    assert (again.status_code, again.headers["location"]) == (202, first.headers["location"])
    assert again.content == first.content, "the first answer, not the present state"
    refused = (422, "idempotency_key_reused")
    assert refusal(api.post(path, json=asked | {"rows": [1]}, headers=KEY)) == refused
    assert refusal(api.post(f"/datasets/{other}/{noun}", json=asked, headers=KEY)) == refused
    assert [each["id"] for each in api.get(path).json()["items"]] == [first.json()["id"]]


def test_an_upload_in_parts_accepts_a_key(api: TestClient) -> None:
    def begin(filename: str = "rows.jsonl") -> Any:
        return api.post("/uploads", json={"bytes": 5, "filename": filename}, headers=KEY)

    begun = begin()
    assert begun.status_code == 201
    path = begun.headers["location"]
    part = api.post(f"{path}/parts", content=b"hello").json()
    again = begin()
    assert (again.status_code, again.headers["location"], again.content) == (201, path, begun.content)
    assert refusal(begin("other.jsonl")) == (422, "idempotency_key_reused")
    assert len(api.get("/uploads").json()["items"]) == 1

    def complete(*part_ids: str, key: str) -> Any:
        return api.post(f"{path}/complete", json={"part_ids": part_ids}, headers={"Idempotency-Key": key})

    assert refusal(complete(part["id"], key=KEY["Idempotency-Key"])) == (422, "idempotency_key_reused")
    completed, again = (complete(part["id"], key="whole") for _ in range(2))
    assert (completed.status_code, again.status_code, again.content) == (200, 200, completed.content)
    assert completed.headers["location"] == again.headers["location"] == f"/datasets/{completed.json()['dataset_id']}"
    assert refusal(complete(part["id"], part["id"], key="whole")) == (422, "idempotency_key_reused")
    assert len(api.get("/datasets").json()["items"]) == 1


def test_every_post_that_creates_something_from_a_small_body_accepts_a_key() -> None:
    """Posts that stream bytes accept none, and posts that only change a state need none. Signing in accepts none: its
    answer is a secret that no repetition may get, and a session whose cookie was lost expires."""
    streams = {"/datasets", "/uploads/{id}/parts"}
    verbs = {"cancel", "pause", "resume", "revoke"}
    for path, operations in create_app(Settings()).openapi()["paths"].items():
        if "post" in operations:
            headers = {each["name"].lower() for each in operations["post"]["parameters"] if each["in"] == "header"}
            creates = path not in streams | {"/session"} and path.rsplit("/", 1)[1] not in verbs
            assert ("idempotency-key" in headers) is creates, path


def test_a_refused_request_does_not_use_up_its_key(api: TestClient, make_spec: Spec) -> None:
    spec = make_spec()
    assert refusal(api.post("/jobs", json=spec | {"colour": "red"}, headers=KEY)) == (422, "invalid_spec")
    assert api.post("/jobs", json=spec, headers=KEY).status_code == 201


def test_a_key_belongs_to_its_project(api: TestClient, sessions: Sessions, make_spec: Spec, as_project: Any) -> None:
    spec = make_spec()
    assert api.post("/jobs", json=spec, headers=KEY).status_code == 201
    # The other project does not get the kept answer: its request is checked, and its dataset is not found.
    answer = api.post("/jobs", json=spec, headers=KEY | as_project("other"))
    assert refusal(answer) == (422, "invalid_spec")


def test_a_repeated_request_is_refused_while_the_first_is_in_progress(
    api: TestClient, sessions: Sessions, project_id: str, make_spec: Spec
) -> None:
    spec = make_spec()
    with transaction(sessions) as session:
        assert lock_key(session, project_id, KEY["Idempotency-Key"])
        answer = api.post("/jobs", json=spec, headers=KEY)
        assert refusal(answer) == (409, "request_in_progress")
        assert answer.headers["retry-after"] == "1"
        assert api.post("/jobs", json=spec, headers={"Idempotency-Key": "nightly-2"}).status_code == 201
    assert api.post("/jobs", json=spec, headers=KEY).status_code == 201


def test_many_concurrent_requests_create_one_job(api: TestClient, sessions: Sessions, make_spec: Spec) -> None:
    spec = make_spec()
    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(lambda _: api.post("/jobs", json=spec, headers=KEY), range(24)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert num_jobs(sessions) == 1


def test_a_failed_commit_keeps_no_answer(api: TestClient, sessions: Sessions, make_spec: Spec) -> None:
    """The answer is kept in the job's transaction: both are stored, or neither."""
    spec = make_spec()
    with transaction(sessions) as session:
        session.connection().exec_driver_sql(
            """
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'commit failed'; END $$;
            CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON jobs DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION fail();
            """
        )
    assert refusal(api.post("/jobs", json=spec, headers=KEY)) == (500, "internal_error")
    with transaction(sessions) as session:
        session.connection().exec_driver_sql("DROP TRIGGER fail ON jobs")
        assert session.scalars(select(KeptAnswer)).all() == []
    assert api.post("/jobs", json=spec, headers=KEY).status_code == 201
    assert num_jobs(sessions) == 1


def test_a_key_can_be_used_again_after_a_day(api: TestClient, sessions: Sessions, make_spec: Spec) -> None:
    spec = make_spec()
    first = api.post("/jobs", json=spec, headers=KEY)
    age(sessions, KEPT - timedelta(minutes=1))
    assert api.post("/jobs", json=spec, headers=KEY).content == first.content
    age(sessions, timedelta(minutes=2))
    second = api.post("/jobs", json=spec | {"name": "next day"}, headers=KEY)
    assert second.status_code == 201
    assert second.json()["id"] != first.json()["id"]
    assert api.post("/jobs", json=spec | {"name": "next day"}, headers=KEY).content == second.content


def test_old_answers_are_deleted(
    api: TestClient, settings: Settings, sessions: Sessions, project_id: str, make_spec: Spec
) -> None:
    assert api.post("/jobs", json=make_spec(), headers=KEY).status_code == 201
    age(sessions, KEPT + timedelta(minutes=1))
    with transaction(sessions) as session:
        keep_answer(session, project_id, "young", "0" * 64, status=201, body="{}", location="/jobs/x")
    Dispatcher(settings, sessions).collect()
    with transaction(sessions) as session:
        assert session.scalars(select(KeptAnswer.key)).all() == ["young"]


@pytest.mark.parametrize("key", ["", "a" * 256])
def test_an_empty_or_too_long_key_is_refused(api: TestClient, make_spec: Spec, key: str) -> None:
    answer = api.post("/jobs", json=make_spec(), headers={"Idempotency-Key": key})
    assert refusal(answer) == (422, "invalid_request")
