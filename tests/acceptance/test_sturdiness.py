"""Tests real training processes that die, hang, run too long or lose their worker, under the local stack."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file, save_file

from tests.acceptance.conftest import ROOT, Stack
from tests.acceptance.test_survival import find_worker, happened, submit
from tunewright import Client, Job

pytestmark = pytest.mark.ops

STALL_SECONDS = 40
"""Exceeds the time of a child's imports on a busy machine, during which it sends nothing."""
ENDLESS = 200_000


@pytest.fixture(scope="module")
def own_stack(make_stack: Callable[..., Stack]) -> Stack:
    return make_stack(TUNEWRIGHT_STALL_TIMEOUT_SECONDS=str(STALL_SECONDS))


@pytest.fixture
def client(own_stack: Stack) -> Iterator[Client]:
    with own_stack.client() as client:
        yield client


def wait_until(condition: Callable[[], Any], seconds: float = 180) -> Any:
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.1)
    return found


def find_trainer(worker: psutil.Process) -> psutil.Process:
    """Return the worker's training process. A standby process starts only when no job waits. A process that has just
    started has no command line yet."""

    def find() -> list[psutil.Process]:
        return [child for child in worker.children() if child.cmdline()[-1:] == ["worker.training"]]

    [trainer] = wait_until(find)
    return trainer


def list_event_data(client: Client, job: Job, type: str) -> list[dict[str, Any]]:
    return [event.data for event in happened(client, job.id) if event.type == type]


def wait_for_step(client: Client, job: Job, attempt: int = 1) -> None:
    """Wait until the attempt has reported a loss."""

    def measured() -> bool:
        now = client.get_job(job.id)
        assert now.state != "failed", now.failure
        return any(point.attempt == attempt for point in client.metrics(job.id, names=["loss"]))

    wait_until(measured)


def test_a_killed_training_process_fails_the_attempt_and_not_the_worker(
    own_stack: Stack, client: Client, tmp_path: Path
) -> None:
    job = submit(client, tmp_path, steps=ENDLESS, max_retries=1)
    wait_for_step(client, job)
    worker = find_worker(own_stack)
    find_trainer(worker).kill()
    wait_for_step(client, job, attempt=2)
    [failed] = list_event_data(client, job, "attempt_failed")
    assert failed["reason"] == "training_process_died"
    assert "killed by signal 9. Last lines of its log:" in failed["detail"]
    find_trainer(worker).kill()
    done = client.wait(job.id)
    assert (done.state, done.failure["reason"]) == ("failed", "training_process_died")
    assert list_event_data(client, job, "attempt_lost") == []
    assert worker.is_running()


def test_a_stalled_training_is_ended_and_its_step_and_rows_are_named(
    own_stack: Stack, client: Client, tmp_path: Path
) -> None:
    job = submit(client, tmp_path, steps=ENDLESS, save_every=ENDLESS)
    wait_for_step(client, job)
    trainer = find_trainer(find_worker(own_stack))
    trainer.suspend()
    began = time.monotonic()
    done = client.wait(job.id)
    assert (done.state, done.failure["reason"]) == ("failed", "stalled")
    assert re.search(r"s in step \d+ \(dataset rows \d+, \d+\)", done.failure["message"])
    assert STALL_SECONDS - 2 < time.monotonic() - began < STALL_SECONDS + 15
    assert not trainer.is_running()


def test_a_non_finite_loss_ends_a_training_and_its_step_and_rows_are_named(
    own_stack: Stack, client: Client, tiny_model: Path, tmp_path: Path
) -> None:
    """Train a base model that has a NaN weight."""
    poisoned = own_stack.data.parent / "poisoned"
    shutil.copytree(tiny_model, poisoned)
    weights = load_file(poisoned / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, poisoned / "model.safetensors", {"format": "pt"})
    add = [sys.executable, "-m", "app.models", "add", "poisoned", "--path", str(poisoned)]
    subprocess.run(add, cwd=ROOT, env=own_stack.environment(), check=True, stdout=subprocess.DEVNULL)
    job = submit(client, tmp_path, steps=ENDLESS, base_model="poisoned")
    done = client.wait(job.id)
    assert (done.state, done.failure["reason"]) == ("failed", "non_finite_loss")
    assert re.search(r"loss at step 1 is not finite \(dataset rows \d+, \d+\)", done.failure["message"])
    assert list_event_data(client, job, "attempt_lost") == []


def test_a_job_that_runs_too_long_is_ended(own_stack: Stack, client: Client, tmp_path: Path) -> None:
    job = submit(client, tmp_path, steps=ENDLESS, max_duration_seconds=25, max_retries=3)
    wait_until(lambda: client.get_job(job.id).attempt)
    trainer = find_trainer(find_worker(own_stack))
    done = client.wait(job.id)
    assert (done.state, done.failure["reason"]) == ("failed", "deadline_exceeded")
    assert done.attempt == 1
    [claimed] = [event for event in happened(client, job.id) if event.type == "job_claimed"]
    assert 25 <= (done.finished_at - claimed.created_at).total_seconds() < 35
    assert not trainer.is_running()


def test_a_stalled_worker_ends_its_training_when_it_wakes_after_another_claimed_the_job(
    own_stack: Stack, client: Client, tmp_path: Path
) -> None:
    job = submit(client, tmp_path, steps=ENDLESS)
    wait_for_step(client, job)
    worker = find_worker(own_stack)
    trainer = find_trainer(worker)
    command = [sys.executable, "-m", "celery", "-A", "worker.main", "worker", "--pool", "solo", "-Q", "training"]
    worker.suspend()
    second = subprocess.Popen([*command, "-n", "second@%h"], cwd=ROOT, env=own_stack.environment())
    try:
        wait_for_step(client, job, attempt=2)
        assert trainer.is_running(), "its worker is suspended"
        worker.resume()
        woke = time.monotonic()
        trainer.wait(timeout=10)
        print(f"the old process was gone {time.monotonic() - woke:.1f} s after its worker woke")
        assert worker.is_running()
        assert client.get_job(job.id).attempt == 2
        client.cancel_job(job.id)
        assert client.wait(job.id).state == "cancelled"
        steps = [point.step for point in client.metrics(job.id, names=["loss"])]
        assert steps == list(range(1, len(steps) + 1)), "no gap and no repeat"
        assert len(list_event_data(client, job, "attempt_lost")) == 1
    finally:
        second.send_signal(signal.SIGTERM)
        second.wait(timeout=60)
