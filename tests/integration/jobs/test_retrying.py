"""Retries with changes, and retries from the last checkpoint: what is refused, and what is kept."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, update

from app.db.session import Sessions, transaction
from app.db.tables import Checkpoint, Job, RegisteredModel
from app.domain.hardware import WorkerHardware
from app.jobs.attempts.service import AttemptService
from app.jobs.checkpoints.repository import CheckpointRepository
from app.jobs.queue.repository import Claim

Post = Callable[..., str]
Take = Callable[..., Claim]
HERE = WorkerHardware("here-1", "cpu", 16.0, facts={"threads": 1})
FAST = {"epochs": None, "max_steps": 40}


def codes(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {error["pointer"]: error["code"] for error in answer.json()["errors"]}


@pytest.fixture
def saved(api: TestClient, sessions: Sessions, post: Post, claim: Take) -> Callable[..., str]:
    """Create a cancelled job with checkpoints of steps 7 and 9, and return its id."""

    def make(**fields: Any) -> str:
        id = post(**({"training": FAST} | fields))
        held = claim(HERE)
        with transaction(sessions) as session:
            for step in (7, 9):
                AttemptService(session, held).save_checkpoint(step, [], "1" * 64, HERE.fingerprint)
            AttemptService(session, held).release()
        api.post(f"/jobs/{id}/cancel")
        return id

    return make


def retry(api: TestClient, id: str, **asked: Any) -> Any:
    return api.post(f"/jobs/{id}/retry", json=asked)


def test_changes_are_merged_and_checked_like_a_post(api: TestClient, post: Post, make_dataset: Any) -> None:
    dataset = make_dataset()
    id = post(method="lora", metadata={"team": "a", "run": "1"}, max_retries=2, dataset_id=dataset)
    api.post(f"/jobs/{id}/cancel")
    changes = {"metadata": {"run": None}, "max_retries": None, "adapter": {"rank": 4}, "training": {"max_steps": 5}}
    new = retry(api, id, changes=changes).json()
    api.post(f"/jobs/{new['id']}/cancel")
    spec = new["spec"]
    assert (spec["metadata"], spec["max_retries"], spec["adapter"]["rank"]) == ({"team": "a"}, 0, 4)
    assert (spec["training"]["max_steps"], spec["training"]["epochs"]) == (5, None), "max_steps replaces epochs"

    assert api.delete(f"/datasets/{dataset}").status_code == 204
    wrong = {"colour": "red", "base_model": "unknown", "training": {"batch_size": 0}}
    assert codes(retry(api, id, changes=wrong)) == {
        "/changes/colour": "unknown_field",
        "/changes/base_model": "model_not_found",
        "/changes/training/batch_size": "greater_than_equal",
        "/changes/dataset_id": "dataset_not_found",
    }
    assert codes(retry(api, id, froms="start")).keys() == {"/froms"}
    assert api.post(f"/jobs/{id}/retry", content="{", headers={"Content-Type": "application/json"}).status_code == 400


def test_a_retry_from_the_last_checkpoint_needs_a_checkpoint(api: TestClient, post: Post) -> None:
    id = post()
    api.post(f"/jobs/{id}/cancel")
    answer = retry(api, id, **{"from": "last_checkpoint"})
    assert (answer.status_code, answer.json()["code"]) == (409, "no_checkpoint")
    assert retry(api, id, **{"from": "start"}).status_code == 201


def test_changes_that_do_not_fit_the_checkpoint_are_refused(
    api: TestClient, saved: Callable[..., str], make_dataset: Callable[..., str]
) -> None:
    id = saved(method="lora")
    changes = {
        "dataset_id": make_dataset(),
        "validation_split": 0.1,
        "on_bad_rows": {"action": "skip", "max_share": 0.1},
        "adapter": {"rank": 4, "alpha": 3, "target_modules": ["q_proj"], "use_dora": True},
        "training": {"seed": 1, "max_steps": 9},
    }
    refused = codes(retry(api, id, changes=changes, **{"from": "last_checkpoint"}))
    assert refused.pop("/changes/training/max_steps") == "before_checkpoint"
    assert set(refused.values()) == {"fixed_by_checkpoint"}
    assert refused.keys() == {
        *(f"/changes/{name}" for name in ("dataset_id", "validation_split", "on_bad_rows", "training/seed")),
        *(f"/changes/adapter/{name}" for name in ("rank", "alpha", "target_modules", "use_dora")),
    }
    other = {"method": "qlora"}
    refused = codes(retry(api, id, changes=other, **{"from": "last_checkpoint"}))
    assert refused == {f"/changes/{name}": "fixed_by_checkpoint" for name in ("method", "quantization")}


def test_a_base_model_with_other_weights_is_refused(
    api: TestClient, sessions: Sessions, saved: Callable[..., str]
) -> None:
    id = saved()
    with transaction(sessions) as session:
        session.execute(update(RegisteredModel).values(revision="2" * 64))
    answer = retry(api, id, **{"from": "last_checkpoint"})
    assert codes(answer) == {"/base_model": "base_model_mismatch"}


def test_a_retry_resumes_from_the_furthest_checkpoint_and_keeps_it_and_its_machine(
    api: TestClient, sessions: Sessions, claim: Take, saved: Callable[..., str]
) -> None:
    """So does a retry of a retry that has not saved a checkpoint yet."""
    id = saved()
    changes = {"training": {"learning_rate": 0.5, "save_every": 3, "gradient_checkpointing": True}, "priority": 5}
    first = retry(api, id, changes=changes, **{"from": "last_checkpoint"}).json()
    checkpoints = api.get(f"/jobs/{id}/checkpoints").json()["items"]
    assert first["resume_from"] == checkpoints[0]["id"]
    assert checkpoints[0]["step"] == 9
    assert claim(WorkerHardware("there-1", "cpu", 16.0, facts={"threads": 2})) is None
    assert claim(HERE).job_id == first["id"]
    with transaction(sessions) as session:
        session.execute(update(Job).where(Job.id == id).values(finished_at=func.to_timestamp(0)))
    with transaction(sessions) as session:
        outlived = CheckpointRepository(session).outlived(0, 10)
        assert [each.step for each in outlived] == [7], "an unfinished job resumes from the other one"
    api.post(f"/jobs/{first['id']}/cancel")
    with transaction(sessions) as session:
        session.execute(update(Job).where(Job.id == first["id"]).values(state="cancelled"))
    second = retry(api, first["id"], **{"from": "last_checkpoint"}).json()
    assert second["resume_from"] == first["resume_from"]
    with transaction(sessions) as session:
        assert session.get_one(Job, second["id"]).resume_machine == HERE.fingerprint
        assert session.query(Checkpoint).count() == 2


def test_an_equal_request_with_the_same_key_makes_one_retry(api: TestClient, saved: Callable[..., str]) -> None:
    id = saved()
    key = {"Idempotency-Key": "again"}
    asked = {"from": "last_checkpoint", "changes": {"priority": 1}}
    first, again = (api.post(f"/jobs/{id}/retry", json=asked, headers=key).json()["id"] for _ in range(2))
    assert first == again
    assert api.post(f"/jobs/{id}/retry", headers=key).json()["code"] == "idempotency_key_reused"
