from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.db.session import Sessions, transaction
from app.domain.jobs.state import FailureReason
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim

Spec = Callable[..., dict[str, Any]]
NO_DATASET = "file-" + "0" * 24


def problem_codes(answer: Any) -> dict[str, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    return {error["pointer"]: error["code"] for error in body["errors"]}


def test_a_posted_job_shows_its_whole_spec(api: TestClient, make_spec: Spec) -> None:
    answer = api.post("/jobs", json=make_spec(name="first", metadata={"team": "a"}))
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert (job["state"], job["progress"]) == ("queued", 0)
    assert (job["queue_position"], job["waiting_for"]) == (1, "no worker online")
    assert (job["spec"]["training"]["max_seq_len"], job["spec"]["training"]["learning_rate"]) == ("auto", "auto")
    assert job["resolved"] == []
    assert job["spec"]["adapter"]["rank"] == 16
    assert job["spec"]["quantization"] == {"type": "nf4", "double_quant": True, "compute_dtype": "auto"}
    assert api.get(f"/jobs/{job['id']}").json() == job
    again = api.post("/jobs", json=job["spec"]).json()
    assert again["spec"] == job["spec"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"base_model": "unknown"}, {"/base_model": "model_not_found"}),
        ({"dataset_id": NO_DATASET}, {"/dataset_id": "dataset_not_found"}),
        ({"validation_dataset_id": NO_DATASET}, {"/validation_dataset_id": "dataset_not_found"}),
        ({"adapter": {"rank": 0}}, {"/adapter/rank": "greater_than_equal"}),
        ({"adapter": {"target_modules": ["nope"]}}, {"/adapter/target_modules": "target_modules_not_found"}),
        ({"training": {"epochs": 1, "max_seq_len": 4096}}, {"/training/max_seq_len": "exceeds_model_limit"}),
        ({"training": {}}, {"/training": "epochs_or_max_steps"}),
        ({"training": {"epochs": 1, "max_steps": 2}}, {"/training": "epochs_or_max_steps"}),
        ({"learning_rate": 1}, {"/learning_rate": "unknown_field"}),
        ({"training": {"epochs": 1, "lr": 1}}, {"/training/lr": "unknown_field"}),
        ({"method": "full", "adapter": {}}, {"": "adapter_with_full"}),
        ({"method": "lora", "quantization": {}}, {"": "quantization_without_qlora"}),
        ({"suffix": "a b"}, {"/suffix": "string_pattern_mismatch"}),
    ],
)
def test_a_bad_field_is_named(
    api: TestClient, make_spec: Spec, fields: dict[str, Any], expected: dict[str, str]
) -> None:
    answer = api.post("/jobs", json=make_spec(**fields))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_spec")
    assert problem_codes(answer) == expected


def test_every_bad_field_is_named_at_once(api: TestClient, base_model: str) -> None:
    spec = {
        "base_model": base_model,
        "dataset_id": NO_DATASET,
        "colour": "red",
        "adapter": {"rank": 0, "target_modules": ["nope"]},
        "training": {"epochs": 1, "max_seq_len": 4096, "batch_size": "many"},
    }
    assert problem_codes(api.post("/jobs", json=spec)) == {
        "/dataset_id": "dataset_not_found",
        "/colour": "unknown_field",
        "/adapter/rank": "greater_than_equal",
        "/adapter/target_modules": "target_modules_not_found",
        "/training/max_seq_len": "exceeds_model_limit",
        "/training/batch_size": "int_parsing",
    }


def test_an_unknown_field_is_answered_with_a_suggestion(api: TestClient, make_spec: Spec) -> None:
    spec = make_spec(lr=1, learning_rate=1, colour="red", training={"epochs": 1, "lr": 1, "batchsize": 1})
    messages = {error["pointer"]: error["message"] for error in api.post("/jobs", json=spec).json()["errors"]}
    assert messages == {
        "/lr": "Unknown field 'lr'; did you mean 'training.learning_rate'?",
        "/learning_rate": "Unknown field 'learning_rate'; did you mean 'training.learning_rate'?",
        "/colour": "Unknown field 'colour'; remove it.",
        "/training/lr": "Unknown field 'lr'; did you mean 'learning_rate'?",
        "/training/batchsize": "Unknown field 'batchsize'; did you mean 'batch_size'?",
    }


def test_another_projects_dataset_is_not_found(
    api: TestClient, make_spec: Spec, make_dataset: Callable[..., str], as_project: Callable[[str], dict[str, str]]
) -> None:
    mine = make_spec()
    theirs = as_project("theirs")
    assert api.post("/jobs", json=mine).status_code == 201
    codes = problem_codes(api.post("/jobs", json=mine, headers=theirs))
    assert codes == {"/dataset_id": "dataset_not_found"}


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid_json"),
        (b'{"a": NaN}', "application/json", 400, "invalid_json"),
        (b"\xff", "application/json", 400, "invalid_json"),
        (b"[" * 100_000, "application/json", 400, "invalid_json"),
        (b"[]", "application/json", 422, "invalid_spec"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b" " * (2**20 + 1), "application/json", 413, "too_large"),
    ],
)
def test_a_body_that_is_no_spec_is_refused(
    api: TestClient, body: bytes, content_type: str, status: int, code: str
) -> None:
    answer = api.post("/jobs", content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("id", ["ftjob-" + "0" * 24, "nonsense", "%00", "%2E%2E", "a" * 5000])
@pytest.mark.parametrize("path", ["", "/events", "/metrics", "/stream", "/logs", "/artifacts"])
def test_an_unknown_job_id_is_not_found(api: TestClient, id: str, path: str) -> None:
    answer = api.get(f"/jobs/{id}{path}")
    assert answer.status_code == 404, answer.text
    assert answer.json()["code"] in ("job_not_found", "not_found")


def test_a_queued_job_is_cancelled_at_once_and_only_once(api: TestClient, post: Callable[..., str]) -> None:
    id = post()
    assert api.post(f"/jobs/{id}/cancel").json()["state"] == "cancelled"
    again = api.post(f"/jobs/{id}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "job_finished")


def test_a_running_job_is_asked_to_stop_and_a_second_cancel_is_refused(
    api: TestClient, post: Callable[..., str], claim: Callable[..., Claim]
) -> None:
    id = post()
    claim()
    assert api.post(f"/jobs/{id}/cancel").json()["state"] == "cancelling"
    again = api.post(f"/jobs/{id}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "job_already_cancelling")


def test_only_final_jobs_are_deleted(api: TestClient, post: Callable[..., str]) -> None:
    id = post()
    refused = api.delete(f"/jobs/{id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "job_not_finished")
    api.post(f"/jobs/{id}/cancel")
    assert api.delete(f"/jobs/{id}").status_code == 204
    assert api.get(f"/jobs/{id}").status_code == 404


def test_lists_page_newest_first_without_gap_or_repeat(api: TestClient, post: Callable[..., str]) -> None:
    ids = [post() for _ in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        page = api.get("/jobs", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ids[::-1]


def test_lists_are_filtered(
    api: TestClient, post: Callable[..., str], as_project: Callable[[str], dict[str, str]]
) -> None:
    plain, marked = post(), post(metadata={"team": "a", "env": "b"})
    api.post(f"/jobs/{plain}/cancel")

    def listed(**params: Any) -> list[str]:
        answer = api.get("/jobs", params=params)
        assert answer.status_code == 200, answer.text
        return [job["id"] for job in answer.json()["items"]]

    assert listed(state="cancelled") == [plain]
    assert listed(state=["cancelled", "queued"]) == [marked, plain]
    assert listed(status="cancelled") == [plain]
    assert listed(status="cancelled", state="queued") == [marked, plain]
    assert listed(**{"metadata[team]": "a", "metadata[env]": "b"}) == [marked]
    assert listed(**{"metadata[team]": "b"}) == []
    assert listed(model="tiny") == [marked, plain]
    assert listed(model="other") == []
    assert listed(created_after="2100-01-01T00:00:00Z") == []
    assert listed(created_before="2100-01-01T00:00:00Z", created_after="2000-01-01T00:00:00Z") == [marked, plain]
    assert api.get("/jobs", headers=as_project("other")).json()["items"] == []


@pytest.mark.parametrize(
    "params",
    [
        {"cursor": "!"},
        {"cursor": "AAAA"},
        {"limit": 0},
        {"state": "odd"},
        {"status": "odd"},
        {"stat": "queued"},
        {"metadata": "a"},
        {"created_after": "yesterday"},
        {"created_before": "0.5"},
        {"created_before": "2026-01-01T00:00:00"},
    ],
)
def test_bad_list_parameters_are_refused(api: TestClient, params: dict[str, Any]) -> None:
    answer = api.get("/jobs", params=params)
    assert answer.status_code in (400, 422)
    assert answer.json()["code"] in ("invalid_cursor", "invalid_request")


def test_a_failed_job_shows_its_reason_and_its_log(
    api: TestClient, sessions: Sessions, post: Callable[..., str], claim: Callable[..., Claim]
) -> None:
    id, held = post(), claim()
    with transaction(sessions) as session:
        attempt = AttemptService(session, held)
        attempt.keep_log("Loading…\nsomething\0odd\n")
        attempt.fail(FailureReason.non_finite_loss, "The loss is NaN at step 3; rows 1, 2.")
    job = api.get(f"/jobs/{id}").json()
    assert job["failure"] == {"reason": "non_finite_loss", "message": "The loss is NaN at step 3; rows 1, 2."}
    assert job["finished_at"]
    assert api.get(f"/jobs/{id}/logs").text == "Loading…\nsomething\ufffdodd\n"
    events = api.get(f"/jobs/{id}/events", params={"after": 1}).json()
    assert [event["type"] for event in events["items"]] == ["job_claimed", "job_failed"]


def test_a_failed_commit_is_answered_with_500(api: TestClient, sessions: Sessions, make_spec: Spec) -> None:
    """The commit comes before the answer, so a deferred constraint that fails in the commit is reported."""
    spec = make_spec()
    with transaction(sessions) as session:
        session.connection().exec_driver_sql(
            """
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'commit failed'; END $$;
            CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON jobs DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION fail();
            """
        )
    answer = api.post("/jobs", json=spec)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert api.get("/jobs").json()["items"] == []
