"""Jobs that resume on a machine whose arithmetic differs: real trainings with different numbers of threads."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from app.db.session import Sessions, transaction
from app.db.tables import Checkpoint, Job
from app.storage import Storage
from tests.unit.training.conftest import Recorder
from worker.attempt.runner import AttemptRunner
from worker.training.loop.training_loop import train
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import Failed, Finished, Planned, Stopped

Hold = Callable[..., AttemptRunner]
TRAINING = {"max_steps": 6, "batch_size": 4, "learning_rate": 0.01}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(deterministic)


@pytest.fixture
def post_real(api: TestClient, make_spec: Callable[..., dict[str, Any]], trainable: str) -> Callable[..., str]:
    def post(**training: Any) -> str:
        spec = make_spec(dataset_id=trainable, method="lora", training=TRAINING | training)
        answer = api.post("/jobs", json=spec)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    return post


def run(attempt: AttemptRunner, stop_at: int | None = None) -> Recorder:
    """Train, and report to the server as the worker would."""
    channel = Recorder(stop_at=stop_at)
    try:
        train(attempt.prepare(), channel)
    except TrainingFailed as error:
        channel.lines.append(Failed(reason=error.reason, message=error.message))
    for line in channel.lines:
        if isinstance(line, Planned):
            attempt.messages.handle(line)
    for checkpoint in channel.checkpoints():
        attempt.checkpoint_uploader.store_checkpoint(checkpoint)
    last = channel.lines[-1]
    assert isinstance(last, Stopped | Finished | Failed)
    attempt.conclude(last)
    return channel


def backdate_queued_at(sessions: Sessions) -> None:
    with transaction(sessions) as session:
        session.execute(update(Job).values(queued_at=func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 1)))


def pause_at(api: TestClient, hold: Hold, id: str, step: int, threads: int) -> None:
    attempt = hold(threads)
    assert api.post(f"/jobs/{id}/pause").json()["state"] == "pausing"
    assert run(attempt, stop_at=step).lines[-1] == Stopped(step=step)
    assert api.get(f"/jobs/{id}").json()["state"] == "paused"


def test_a_job_paused_on_one_thread_succeeds_on_two_and_is_marked_inexact(
    api: TestClient, sessions: Sessions, post_real: Callable[..., str], hold: Hold, tmp_path: Any
) -> None:
    id = post_real()
    pause_at(api, hold, id, step=2, threads=1)
    api.post(f"/jobs/{id}/resume")
    with pytest.raises(AssertionError):
        hold(threads=2)  # it still waits for an equal worker
    backdate_queued_at(sessions)
    attempt = hold(threads=2)
    run(attempt)
    job = api.get(f"/jobs/{id}").json()
    assert (job["state"], job["step"], job["exact"]) == ("succeeded", 2, False)  # metrics are not reported here
    resumes = [{"step": 2, "differs": {"machine.threads": {"before": 1, "now": 2}}}]
    assert job["inexact_resumes"] == resumes
    manifest = json.loads((attempt.output_uploader.written.root / "result/manifest.json").read_text())
    assert (manifest["exact"], manifest["inexact_resumes"]) == (False, resumes)


def test_a_job_that_refuses_an_inexact_resume_fails_and_names_the_difference(
    api: TestClient, sessions: Sessions, post_real: Callable[..., str], hold: Hold
) -> None:
    id = post_real(on_inexact_resume="fail")
    pause_at(api, hold, id, step=2, threads=1)
    api.post(f"/jobs/{id}/resume")
    backdate_queued_at(sessions)
    run(hold(threads=2))
    failure = api.get(f"/jobs/{id}").json()["failure"]
    assert failure["reason"] == "inexact_resume"
    assert "machine.threads was 1 and is 2" in failure["message"]


def test_a_cancelled_job_is_retried_from_its_last_checkpoint_with_more_steps(
    api: TestClient, sessions: Sessions, post_real: Callable[..., str], hold: Hold
) -> None:
    """The old job's curve up to the checkpoint and the new job's curve after it form one training, and the changes
    are reported."""
    id = post_real()
    attempt = hold()
    run(attempt, stop_at=4)
    api.post(f"/jobs/{id}/cancel")
    asked = {"from": "last_checkpoint", "changes": {"training": {"max_steps": 8}}}
    answer = api.post(f"/jobs/{id}/retry", json=asked)
    assert answer.status_code == 201, answer.text
    new = answer.json()
    assert (new["retry_of"], new["spec"]["training"]["max_steps"]) == (id, 8)
    [checkpoint] = api.get(f"/jobs/{id}/checkpoints").json()["items"]
    assert new["resume_from"] == checkpoint["id"]
    assert api.delete(f"/jobs/{id}").json()["code"] == "checkpoint_in_use"
    events = api.get(f"/jobs/{new['id']}/events").json()["items"]
    assert events[0]["message"].endswith(f"as a retry of {id}, resuming from its checkpoint at step 4.")

    channel = run(hold())
    assert [line.start_step for line in channel.lines if isinstance(line, Planned)] == [4]
    assert len(channel.losses()) == 4
    done = api.get(f"/jobs/{new['id']}").json()
    assert (done["state"], done["exact"]) == ("succeeded", False)
    assert done["inexact_resumes"] == [{"step": 4, "differs": {"spec.training.max_steps": {"before": 6, "now": 8}}}]
    assert api.delete(f"/jobs/{id}").status_code == 204

    with transaction(sessions) as session:
        assert session.scalars(select(Checkpoint.id).where(Checkpoint.id == checkpoint["id"])).all() == []


def test_a_retry_whose_checkpoint_is_missing_fails_and_suggests_the_start(
    api: TestClient, storage: Storage, post_real: Callable[..., str], hold: Hold
) -> None:
    id = post_real()
    run(hold(), stop_at=2)
    api.post(f"/jobs/{id}/cancel")
    new = api.post(f"/jobs/{id}/retry", json={"from": "last_checkpoint"}).json()["id"]
    assert storage.root is not None
    for path in storage.root.rglob("checkpoints/2/*"):
        path.unlink()
    hold().run()
    failure = api.get(f"/jobs/{new}").json()["failure"]
    assert failure["reason"] == "checkpoint_unusable"
    assert 'from "start"' in failure["message"]
