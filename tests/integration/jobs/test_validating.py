"""`validate_only` checks a spec as a post does, and creates nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from typer.testing import CliRunner, Result

from app.db.base import Base
from app.db.session import Sessions, transaction
from app.db.tables import DatasetUse, Job, JobEvent, KeptAnswer, OutboxRow
from tunewright import Client, TunewrightError
from tunewright.command_line import app

Spec = Callable[..., dict[str, Any]]
RunCreate = Callable[..., Result]
NOTHING = {table.__tablename__: 0 for table in (Job, JobEvent, DatasetUse, OutboxRow, KeptAnswer)}


@pytest.fixture
def count_rows(sessions: Sessions) -> Callable[[], dict[str, int]]:
    """Count the rows of each table that a post writes to."""

    def count() -> dict[str, int]:
        with transaction(sessions) as session:
            tables = [Base.metadata.tables[name] for name in NOTHING]
            return {table.name: session.scalar(select(func.count()).select_from(table)) or 0 for table in tables}

    return count


@pytest.fixture
def client(live_server: str, make_key: Callable[..., str]) -> Client:
    return Client(live_server, make_key("default"))


@pytest.fixture
def run_create(live_server: str, make_key: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> RunCreate:
    monkeypatch.setenv("TUNEWRIGHT_URL", live_server)
    monkeypatch.setenv("TUNEWRIGHT_API_KEY", make_key("default"))
    return lambda *arguments: CliRunner().invoke(app, ["jobs", "create", *map(str, arguments)])


def refusals(result: Result) -> dict[str, str]:
    """Return the errors that the command's `main` prints, one a line."""
    assert isinstance(result.exception, TunewrightError), result.output
    return {error.pointer: error.message for error in result.exception.errors}


def test_a_valid_spec_is_returned_filled_in_and_nothing_is_created(
    api: TestClient, make_spec: Spec, count_rows: Callable[[], dict[str, int]]
) -> None:
    spec = make_spec(method="lora", adapter={"rank": 4}, init_from=None)
    headers = {"Idempotency-Key": "one"}
    answer = api.post("/jobs?validate_only=true", json=spec, headers=headers)
    assert answer.status_code == 200, answer.text
    assert "location" not in answer.headers
    assert count_rows() == NOTHING
    posted = api.post("/jobs", json=spec, headers=headers)
    assert posted.status_code == 201, "the idempotency key was not used up"
    job = posted.json()
    assert answer.json() == {"valid": True, "spec": job["spec"], "waiting_for": job["waiting_for"]}
    assert count_rows() == dict.fromkeys(NOTHING, 1)


def test_a_check_ignores_an_idempotency_key_that_was_used_for_another_body(
    api: TestClient, make_spec: Spec, count_rows: Callable[[], dict[str, int]]
) -> None:
    headers, first = {"Idempotency-Key": "one"}, make_spec()
    posted = api.post("/jobs", json=first, headers=headers)
    before = count_rows()
    assert api.post("/jobs", json=make_spec(name="other"), headers=headers).json()["code"] == "idempotency_key_reused"
    for spec, status in ((make_spec(name="other"), 200), (first, 200), (make_spec(lr=1), 422)):
        assert api.post("/jobs?validate_only=true", json=spec, headers=headers).status_code == status
    assert count_rows() == before
    assert api.post("/jobs", json=first, headers=headers).json() == posted.json()


def test_an_invalid_spec_is_refused_as_a_post_refuses_it(
    api: TestClient, make_spec: Spec, count_rows: Callable[[], dict[str, int]]
) -> None:
    bad = make_spec(lr=1, base_model="nosuch", adapter={"rank": 0})
    checked, posted = (api.post(f"/jobs{query}", json=bad) for query in ("?validate_only=true", ""))
    assert (checked.status_code, checked.json()) == (422, posted.json())
    assert {error["pointer"] for error in checked.json()["errors"]} == {"/lr", "/base_model", "/adapter/rank"}
    assert count_rows() == NOTHING


def test_what_a_job_would_wait_for_is_shown(api: TestClient, make_spec: Spec, make_dataset: Callable[..., str]) -> None:
    def wait_reason(**fields: Any) -> str:
        answer = api.post("/jobs?validate_only=true", json=make_spec(**fields))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["waiting_for"])

    assert wait_reason() == "no worker online"
    assert wait_reason(dataset_id=make_dataset("inspecting")) == "its dataset is being inspected"


def test_the_client_validates(client: Client, make_spec: Spec) -> None:
    with client:
        found = client.validate_job(**make_spec())
        assert (found.spec["training"]["learning_rate"], found.waiting_for) == ("auto", "no worker online")
        with pytest.raises(TunewrightError) as refused:
            client.validate_job(**make_spec(lr=1))
    assert [error.code for error in refused.value.errors] == ["unknown_field"]


def test_the_command_line_validates(
    run_create: RunCreate, make_spec: Spec, tmp_path: Path, count_rows: Callable[[], dict[str, int]]
) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(make_spec()))
    done = run_create("--spec", tmp_path / "spec.json", "--rank", 4, "--validate-only")
    assert done.exit_code == 0, done.output
    filled = json.loads(done.stdout)
    assert (filled["adapter"]["rank"], filled["adapter"]["alpha"]) == (4, "auto")
    assert "The spec is valid. No job was created. The job would wait: no worker online." in done.stderr
    whole = json.loads(run_create("--spec", tmp_path / "spec.json", "--validate-only", "--json").stdout)
    assert (whole["valid"], whole["spec"]["adapter"]["rank"]) == (True, 16)
    (tmp_path / "spec.json").write_text(json.dumps(make_spec(lr=1, training={"epochs": 1, "n_epoch": 1})))
    refused = run_create("--spec", tmp_path / "spec.json", "--validate-only")
    assert refusals(refused) == {
        "/lr": "Unknown field 'lr'; did you mean 'training.learning_rate'?",
        "/training/n_epoch": "Unknown field 'n_epoch'; did you mean 'epochs'?",
    }
    assert count_rows() == NOTHING


def test_no_file_is_uploaded_for_an_invalid_spec(
    run_create: RunCreate, api: TestClient, base_model: str, tmp_path: Path, count_rows: Callable[[], dict[str, int]]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    arguments = ["--model", base_model, "--dataset", rows, "--epochs", 1]
    good = run_create(*arguments, "--validate-only")
    assert good.exit_code == 0, good.output
    assert "valid, except for the dataset, which was not checked" in good.stderr
    for flags in ([], ["--validate-only"]):
        bad = run_create(*arguments, "--rank", 0, "--model", "nosuch", *flags)
        assert refusals(bad).keys() == {"/adapter/rank", "/base_model"}
        assert str(bad.exception) == "2 fields must be changed: /adapter/rank, /base_model."
    missing = run_create("--model", base_model, "--dataset", tmp_path / "none.jsonl", "--epochs", 1, "--validate-only")
    assert missing.exit_code != 0
    assert count_rows() == NOTHING
    assert api.get("/datasets").json()["items"] == []
    posted = run_create(*arguments, "--json")
    assert posted.exit_code == 0, posted.output
    assert len(api.get("/datasets").json()["items"]) == 1
