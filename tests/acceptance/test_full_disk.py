"""Tests a worker whose disk is full: it claims no job, trains without checkpoints, and reports what it needs.

The test fills the disk until an attempt fails, which takes long: `make chaos` runs it.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Stack
from tests.acceptance.test_sturdiness import list_event_data, wait_for_step, wait_until
from tests.acceptance.test_survival import submit, upload

pytestmark = [
    pytest.mark.ops,
    pytest.mark.skipif("TUNEWRIGHT_FULL_DISK" not in os.environ, reason="make chaos runs it"),
]

STEPS = 800
NO_DISK_SPACE = "no worker online with free disk space"


@pytest.fixture
def stack(make_stack: Callable[..., Stack]) -> Stack:
    return make_stack()


@pytest.fixture
def work(stack: Stack) -> Iterator[Path]:
    """Mount a disk of 64 MB as the worker's folder."""
    work = stack.data / "work"
    work.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(work)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield work
    subprocess.run(["umount", "--lazy", str(work)], check=True)


def fill(disk: Path) -> Path:
    """Fill the disk to the last byte, including what was freed since the last call."""
    filler = disk / "filler"
    try:
        with filler.open("ab", buffering=0) as file:
            while file.write(bytes(2**12)):
                continue
    except OSError:
        return filler
    raise AssertionError("the disk does not become full")


def test_a_full_disk_costs_checkpoints_and_time_and_is_reported(stack: Stack, work: Path, tmp_path: Path) -> None:
    with stack.client() as client:
        dataset_id = client.wait_for_dataset(upload(client, tmp_path)).id  # the inspection needs disk space too
        filler = fill(work)
        wait_until(lambda: [each.disk_full for each in client.workers() if "training" in each.queues] == [True])
        job = submit(client, tmp_path, steps=STEPS, max_retries=1, dataset_id=dataset_id)
        wait_until(lambda: client.get_job(job.id).waiting_for == NO_DISK_SPACE)
        filler.unlink()

        wait_for_step(client, job)
        wait_until(lambda: list_event_data(client, job, "checkpoint_saved"))
        filler = fill(work)
        # An interrupted checkpoint removes its incomplete files, which frees enough space for a result.
        [failed] = wait_until(lambda: fill(work) and list_event_data(client, job, "attempt_failed"))
        assert failed["reason"] == "disk_full"
        assert f"0.0 MB in {work}" in failed["detail"]
        assert "checkpoint_failed" in {warned["code"] for warned in list_event_data(client, job, "warning_issued")}
        wait_until(lambda: client.get_job(job.id).waiting_for == NO_DISK_SPACE)
        assert client.get_job(job.id).attempt == 1, "the next attempt does not start at once"
        filler.unlink()

        assert client.wait(job.id).state == "succeeded"
        assert client.get_job(job.id).attempt == 2
        [resumed] = list_event_data(client, job, "job_resumed")
        assert resumed["step"] >= 50
        assert [point.step for point in client.metrics(job.id, names=["loss"])] == list(range(1, STEPS + 1))
