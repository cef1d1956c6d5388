"""Tests that a paused training resumes from the step at which it stopped, without a gap in its curve."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import Stack
from tests.acceptance.test_survival import find_worker, happened, submit
from tunewright import Client, Job, TunewrightError

STEPS = 600


def wait_for_state(client: Client, job_id: str, state: str, seconds: float = 60) -> Job:
    end = time.monotonic() + seconds
    while (job := client.get_job(job_id)).state != state:
        assert not job.is_final, client.logs(job_id)
        assert time.monotonic() < end, f"{job.state} for too long"
        time.sleep(0.1)
    return job


def wait_for_step(client: Client, job_id: str, step: int) -> None:
    wait_for_state(client, job_id, "running")
    end = time.monotonic() + 90
    while client.get_job(job_id).step < step:
        assert time.monotonic() < end, client.logs(job_id)
        time.sleep(0.1)


def find_trainers(stack: Stack, job_id: str) -> list[psutil.Process]:
    """Return the processes that train the job. Their working directory is the job's folder."""
    return [child for child in find_worker(stack).children() if works_in(child, job_id)]


@contextmanager
def suspended_training(client: Client, stack: Stack, job: Job) -> Iterator[None]:
    """Suspend the job's training process after a few steps, so that it can neither end nor save."""
    wait_for_step(client, job.id, step=5)
    [trainer] = find_trainers(stack, job.id)
    trainer.suspend()
    try:
        yield
    finally:
        trainer.resume()


def works_in(process: psutil.Process, folder: str) -> bool:
    try:
        return "worker.training" in process.cmdline() and folder in process.cwd()
    except psutil.NoSuchProcess:  # it has just ended
        return False


def assert_curve_has_no_gap(client: Client, job_id: str, num_attempts: int) -> None:
    done = client.wait(job_id)
    assert done.state == "succeeded", client.logs(job_id)
    assert (done.attempt, done.step, done.adapter_id is not None) == (num_attempts, STEPS, True)
    assert [point.step for point in client.metrics(job_id, names=["loss"])] == list(range(1, STEPS + 1))
    kinds = [event.type for event in happened(client, job_id)]
    assert not {"attempt_lost", "attempt_failed"} & set(kinds)


def test_a_paused_training_saves_a_checkpoint_and_resumes_from_it(client: Client, stack: Stack, tmp_path: Path) -> None:
    job = submit(client, tmp_path, steps=STEPS)
    with suspended_training(client, stack, job):
        assert client.pause_job(job.id).state == "pausing"
    paused = wait_for_state(client, job.id, "paused", seconds=15)
    assert find_trainers(stack, job.id) == []
    saved = [event.data["step"] for event in happened(client, job.id) if event.type == "checkpoint_saved"][-1]
    assert 5 <= saved == paused.step < STEPS, "a pause saves a checkpoint at its step, not only at every fiftieth"
    with pytest.raises(TunewrightError) as refused:
        client.pause_job(job.id)
    assert refused.value.code == "job_already_paused"

    other = submit(client, tmp_path, steps=3)
    assert client.wait(other.id).state == "succeeded", "a paused job leaves the worker free"
    again = client.retry_job(other.id)
    assert again.retry_of == other.id
    assert client.wait(again.id).state == "succeeded"
    assert client.get_job(job.id).state == "paused"

    assert client.resume_job(job.id).state == "queued"
    assert_curve_has_no_gap(client, job.id, num_attempts=2)
    [resumed] = [event.data["step"] for event in happened(client, job.id) if event.type == "job_resumed"]
    assert resumed == saved


def test_a_pause_followed_by_a_resume_loses_no_step(client: Client, stack: Stack, tmp_path: Path) -> None:
    job = submit(client, tmp_path, steps=STEPS)
    with suspended_training(client, stack, job):
        client.pause_job(job.id)
        assert client.resume_job(job.id).state == "queued"
    assert_curve_has_no_gap(client, job.id, num_attempts=2)
    events = happened(client, job.id)
    saved = [event.data["step"] for event in events if event.type == "checkpoint_saved"]
    [resumed] = [event.data["step"] for event in events if event.type == "job_resumed"]
    assert resumed in saved
    assert "attempt_released" in [event.type for event in events]


@pytest.mark.parametrize("taken_back", [False, True])
def test_a_pausing_job_can_be_cancelled(client: Client, stack: Stack, tmp_path: Path, taken_back: bool) -> None:
    job = submit(client, tmp_path, steps=100_000)
    wait_for_step(client, job.id, step=5)
    client.pause_job(job.id)
    if taken_back:
        client.resume_job(job.id)
    client.cancel_job(job.id)
    wait_for_state(client, job.id, "cancelled", seconds=15)
    end = time.monotonic() + 15
    while find_trainers(stack, job.id):
        assert time.monotonic() < end
        time.sleep(0.1)
