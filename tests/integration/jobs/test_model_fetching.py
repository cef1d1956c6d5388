"""How an attempt fetches its base model."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.db.session import Sessions, transaction
from app.db.tables import RegisteredModel
from app.settings import Settings
from app.storage import Storage
from worker.attempt import inputs
from worker.attempt.runner import AttemptRunner
from worker.host.model_cache import FetchStopped

Spec = Callable[..., dict[str, Any]]


@pytest.fixture
def begun(trainable: str, api: TestClient, make_spec: Spec, hold: Callable[..., AttemptRunner]) -> AttemptRunner:
    """A running attempt at a job whose model is in the storage."""
    training = {"max_steps": 1}
    answer = api.post("/jobs", json=make_spec(dataset_id=trainable, method="lora", training=training))
    assert answer.status_code == 201, answer.text
    return hold()


def set_models(sessions: Sessions, **values: Any) -> None:
    with transaction(sessions) as session:
        session.execute(update(RegisteredModel).values(**values))


def test_a_long_fetch_reports_its_progress(
    begun: AttemptRunner,
    api: TestClient,
    sessions: Sessions,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    """On a machine that does not have the model's folder."""
    shutil.rmtree(tmp_path / "tiny")
    set_models(sessions, license="gemma", source="org/name")
    monkeypatch.setattr(Storage, "links", lambda *_: False)
    monkeypatch.setattr(inputs, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(inputs, "PROGRESS_EVENT_SECONDS", 0.0)
    request = begun.prepare()
    assert request.base_model_path.is_relative_to(settings.cache_dir)
    assert (request.base_model_path / "model.safetensors").exists()
    assert (request.base_model_license, request.base_model_hub) == ("gemma", "org/name")
    events = api.get(f"/jobs/{begun.claim.job_id}/events").json()["items"]
    progress = [event["data"] for event in events if event["type"] == "model_fetched"]
    assert progress[-1]["num_bytes"] == progress[-1]["total_bytes"] > progress[0]["num_bytes"]
    assert "Fetched 0.0 of 0.0 GB of the model." in [event["message"] for event in events]


def test_a_models_name_and_revision_on_the_hub_are_passed_on(begun: AttemptRunner, sessions: Sessions) -> None:
    set_models(sessions, hub_name="org/name", hub_revision="c0ffee")
    request = begun.prepare()
    assert (request.base_model, request.base_model_hub) == ("tiny", None)
    assert request.base_address == ("org/name", "c0ffee")


def test_a_fetch_stops_when_the_worker_drains(begun: AttemptRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Storage, "links", lambda *_: False)
    begun.drain.set()
    with pytest.raises(FetchStopped):
        begun.prepare()
