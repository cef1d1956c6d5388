"""Trackers fed by a worker: the real libraries in their real process; only a server that hangs is simulated."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.db.session import Sessions, transaction
from app.domain.jobs.spec import JobSpec
from app.domain.metric import MetricPoint
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.service import JobService
from tests.fixtures.tracked import read_events, read_mlflow, read_wandb
from worker.attempt.fenced_writer import FencedWriter
from worker.attempt.trackers import feed, feeds
from worker.attempt.trackers.feeds import Trackers
from worker.processes import tracking

Take = Callable[..., Claim]
Post = Callable[..., str]
BOARD = {"type": "tensorboard"}
MLFLOW = {"type": "mlflow", "mlflow": {"experiment": "cats"}}
WANDB = {"type": "wandb", "wandb": {"project": "cats", "name": "first", "tags": ["a"]}}
FIRST = [*[(step, {"loss": 1 / step, "learning_rate": 0.125}) for step in (1, 2, 3, 4)], (4, {"validation_loss": 0.5})]
SECOND = [(3, {"loss": 0.25}), (4, {"loss": 0.5}), (5, {"loss": 0.75, "learning_rate": 0.5})]


@pytest.fixture(autouse=True)
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set the trackers' credentials on this machine, and return MLflow's URI."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    uri = f"file:{tmp_path}/mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    return uri


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "END_SECONDS", 1.0)
    monkeypatch.setattr(feed, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(feed, "EVERY_SECONDS", 0.1)


@pytest.fixture
def begin(sessions: Sessions, tmp_path: Path) -> Iterator[Callable[[Claim], Trackers]]:
    """Start an attempt's trackers; they end with the test."""
    begun: list[Trackers] = []

    def start(held: Claim) -> Trackers:
        with transaction(sessions) as session:
            spec = JobSpec.model_validate(JobService(session).get(held.project_id, held.job_id).spec)
        fence = FencedWriter(sessions, held, 60, lambda: False)
        begun.append(Trackers(fence, held, tmp_path / str(held.attempt), tmp_path / "kept"))
        begun[-1].start(spec)
        return begun[-1]

    yield start
    for each in begun:
        for one in each._live:
            one.give_up()


def record(sessions: Sessions, held: Claim, start: int, values: list[tuple[int, dict[str, float]]]) -> None:
    with transaction(sessions) as session:
        service = AttemptService(session, held)
        service.plan({}, 9, start)
        points = [
            MetricPoint(attempt=held.attempt, number=number, step=step, measured_at="2026-01-05T10:12:13Z", values=each)
            for number, (step, each) in enumerate(values, 1)
        ]
        service.record(points, None)


def release(sessions: Sessions, held: Claim) -> None:
    with transaction(sessions) as session:
        AttemptService(session, held).release()


def publish(sessions: Sessions, held: Claim) -> None:
    with transaction(sessions) as session:
        AttemptService(session, held).publish({}, [], None)


def warnings(sessions: Sessions, held: Claim) -> list[dict[str, Any]]:
    with transaction(sessions) as session:
        events = JobService(session).jobs.events(held.project_id, held.job_id, 0, 1000)
        return [event.data for event in events if event.type == "warning_issued"]


def test_tensorboard_gets_the_curve(
    sessions: Sessions, post: Post, claim: Take, begin: Callable[[Claim], Trackers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that an attempt measured after the step from which the next one resumed are left out."""
    monkeypatch.setattr(feed, "PAGE_STEPS", 2)
    post(integrations=[BOARD])
    first = claim()
    record(sessions, first, 0, FIRST)
    release(sessions, first)
    second = claim()
    record(sessions, second, 2, SECOND)
    trackers = begin(second)
    trackers.settle(finished=True)
    path = trackers.events_file()
    assert path is not None
    assert path.name == "tensorboard.tfevents"
    assert read_events(path) == {
        "loss": {1: 1.0, 2: 0.5, 3: 0.25, 4: 0.5, 5: 0.75},
        "learning_rate": {1: 0.125, 2: 0.125, 5: 0.5},
    }
    trackers.end(draining=False)
    assert warnings(sessions, second) == []


def test_mlflow_and_wandb_get_each_step_once_over_two_attempts(
    sessions: Sessions, post: Post, claim: Take, begin: Callable[[Claim], Trackers], credentials: str, tmp_path: Path
) -> None:
    post(integrations=[MLFLOW, WANDB], name="my job", metadata={"team?": "support"})
    first = claim()
    trackers = begin(first)
    record(sessions, first, 0, FIRST)
    release(sessions, first)
    trackers.end(draining=False)
    [run] = read_mlflow(credentials, "cats")
    loss = {1: 1.0, 2: 0.5, 3: 1 / 3, 4: 0.25}
    assert run.curves["loss"] == loss
    assert run.curves["validation_loss"] == {4: 0.5}
    assert (run.status, run.name) == ("SCHEDULED", "my job")
    assert (run.config["training.epochs"], run.config["metadata.team_"]) == ("1.0", "support")
    [offline] = read_wandb(tmp_path / "kept", first.job_id)
    assert offline.curves == run.curves
    assert (offline.status, offline.name, offline.config["training"]["epochs"]) == (1, "first", 1.0)

    second = claim()
    trackers = begin(second)
    record(sessions, second, 2, SECOND)
    trackers.settle(finished=True)
    publish(sessions, second)
    trackers.end(draining=False)
    [run] = read_mlflow(credentials, "cats")
    assert run.curves["loss"] == loss | {5: 0.75}
    assert run.status == "FINISHED"
    # Each attempt has a separate folder, which holds the whole curve as it is at that time.
    [_, offline] = read_wandb(tmp_path / "kept", first.job_id)
    assert offline.curves["loss"] == {1: 1.0, 2: 0.5, 3: 0.25, 4: 0.5, 5: 0.75}
    assert offline.status == 0
    assert warnings(sessions, second) == []


def test_a_tracking_process_that_dies_is_restarted(
    quick: None,
    sessions: Sessions,
    post: Post,
    claim: Take,
    begin: Callable[[Claim], Trackers],
    credentials: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "END_SECONDS", 30.0)
    post(integrations=[MLFLOW])
    held = claim()
    record(sessions, held, 0, FIRST)
    trackers = begin(held)
    until = time.monotonic() + 60
    while "loss" not in (curves := mlflow_curves(credentials)) or len(curves["loss"]) < 3:
        assert time.monotonic() < until
        time.sleep(0.2)
    process = trackers._live[0]._process
    assert process is not None
    os.kill(process._process.pid, signal.SIGKILL)
    more = [(step, {"loss": 1 / step}) for step in (5, 6)]
    record(sessions, held, 0, [*FIRST, *more])
    trackers.settle(finished=True)
    publish(sessions, held)
    trackers.end(draining=False)
    assert mlflow_curves(credentials)["loss"] == {step: 1 / step for step in range(1, 7)}
    assert [warning["code"] for warning in warnings(sessions, held)] == ["tracker_failed"]


def mlflow_curves(uri: str) -> Any:
    try:
        return next(iter(read_mlflow(uri, "cats"))).curves
    except (AssertionError, StopIteration):
        return {}


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Accept connections and never answer; yield the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("integration", [MLFLOW, WANDB], ids=["mlflow", "wandb"])
def test_a_tracker_that_hangs_costs_a_bounded_time_and_one_warning(
    integration: dict[str, Any],
    quick: None,
    silent_server: int,
    sessions: Sessions,
    post: Post,
    claim: Take,
    begin: Callable[[Claim], Trackers],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"http://me:s3cret@127.0.0.1:{silent_server}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    post(integrations=[integration])
    held = claim()
    trackers = begin(held)
    record(sessions, held, 0, FIRST)
    began = time.monotonic()
    trackers.settle(finished=True)
    publish(sessions, held)
    trackers.end(draining=False)
    assert time.monotonic() - began < 5
    [warning] = warnings(sessions, held)
    assert warning["code"] == "tracker_failed"
    assert integration["type"] in warning["detail"]
    assert "s3cret" not in warning["detail"]


def test_a_tracker_that_does_not_answer_is_reported_at_once(
    quick: None,
    silent_server: int,
    sessions: Sessions,
    post: Post,
    claim: Take,
    begin: Callable[[Claim], Trackers],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracking, "ANSWER_SECONDS", 0.5)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent_server}")
    post(integrations=[MLFLOW])
    held = claim()
    trackers = begin(held)
    until = time.monotonic() + 60
    while not (found := warnings(sessions, held)):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert "did not answer" in found[0]["detail"]
    release(sessions, held)
    trackers.end(draining=True)


def test_a_tracker_that_refuses_is_reported_once_and_retried(
    quick: None,
    sessions: Sessions,
    post: Post,
    claim: Take,
    begin: Callable[[Claim], Trackers],
    credentials: str,
    tmp_path: Path,
) -> None:
    blocked = tmp_path / "mlruns"
    blocked.write_text("no folder")
    post(integrations=[MLFLOW])
    held = claim()
    trackers = begin(held)
    record(sessions, held, 0, FIRST)
    until = time.monotonic() + 60
    while not (found := warnings(sessions, held)):
        assert time.monotonic() < until
        time.sleep(0.1)
    blocked.unlink()
    while "loss" not in mlflow_curves(credentials):
        assert time.monotonic() < until
        time.sleep(0.2)
    assert warnings(sessions, held) == found
    assert [warning["code"] for warning in found] == ["tracker_failed"]
    release(sessions, held)
    trackers.end(draining=True)


def test_a_worker_without_an_integration_warns_and_trains(
    sessions: Sessions, post: Post, claim: Take, begin: Callable[[Claim], Trackers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("WANDB_MODE")
    post(integrations=[MLFLOW, WANDB])
    held = claim()
    trackers = begin(held)
    trackers.settle(finished=True)
    assert trackers.events_file() is None
    found = warnings(sessions, held)
    assert [warning["code"] for warning in found] == ["integration_unavailable"] * 2
    assert "MLFLOW_TRACKING_URI" in found[0]["detail"]
    assert "WANDB_API_KEY" in found[1]["detail"]
