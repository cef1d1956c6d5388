"""Tests that accepted jobs survive a killed worker, a drained worker, and a stack that is stopped or killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.conftest import ROOT, Stack, start_stack, stop_stack
from tunewright import Client, Event, Job

pytestmark = pytest.mark.ops


@pytest.fixture(scope="module")
def own_stacks(tiny_model: Path) -> Iterator[list[Stack]]:
    """List the starts of one stack that tests may stop and kill."""
    folder = Path(tempfile.mkdtemp(prefix="tunewright-survival-"))
    folder.chmod(0o755)
    started = [start_stack(folder / "data")]
    add = [sys.executable, "-m", "app.models", "add", "tiny", "--path", str(tiny_model)]
    subprocess.run(add, cwd=ROOT, env=started[0].environment(), check=True, stdout=subprocess.DEVNULL)
    yield started
    if started[-1].process.poll() is None:
        stop_stack(started[-1])
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start_again(own_stacks: list[Stack]) -> Callable[[], Stack]:
    def start_again() -> Stack:
        own_stacks.append(start_stack(own_stacks[-1].data))
        return own_stacks[-1]

    return start_again


@pytest.fixture
def own_stack(own_stacks: list[Stack], start_again: Callable[[], Stack]) -> Stack:
    """Return the running stack, without unfinished jobs."""
    stack = own_stacks[-1] if own_stacks[-1].process.poll() is None else start_again()
    with stack.client() as client:
        for job in client.list_jobs():
            if not job.is_final:
                client.cancel_job(job.id)
                client.wait(job.id)
    return stack


def upload(client: Client, folder: Path) -> str:
    """Upload a small dataset; return its id."""
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"p {n}", "completion": f" c {n}"}) + "\n" for n in range(8)))
    return client.upload_dataset(rows).id


def submit(client: Client, folder: Path, steps: int, save_every: int = 50, **fields: Any) -> Job:
    wanted = {"dataset_id": fields.get("dataset_id") or upload(client, folder), "base_model": "tiny"} | fields
    return client.create_job(training={"max_steps": steps, "batch_size": 2, "save_every": save_every}, **wanted)


def wait_for_checkpoint(client: Client, job_id: str) -> None:
    until = time.monotonic() + 90
    while not any(event.type == "checkpoint_saved" for event in client.events(job_id)):
        assert time.monotonic() < until, client.logs(job_id)
        time.sleep(0.2)


def find_worker(stack: Stack) -> psutil.Process:
    children = psutil.Process(stack.process.pid).children()
    [worker] = [child for child in children if "training@" in " ".join(child.cmdline())]
    return worker


def happened(client: Client, job_id: str) -> list[Event]:
    return list(client.events(job_id))


def test_a_killed_worker_costs_no_job_and_its_child_does_not_outlive_it(own_stack: Stack, tmp_path: Path) -> None:
    with own_stack.client() as client:
        job = submit(client, tmp_path, steps=2000)
        wait_for_checkpoint(client, job.id)
        worker = find_worker(own_stack)
        [trainer] = [child for child in worker.children() if "worker.training" in child.cmdline()]
        worker.kill()
        trainer.wait(timeout=12)
        until = time.monotonic() + 60
        while client.get_job(job.id).attempt < 2:
            assert time.monotonic() < until
            time.sleep(0.2)
        wait_until_resumed(client, job.id)
        client.cancel_job(job.id)
        assert client.wait(job.id).state == "cancelled"
        kinds = [event.type for event in happened(client, job.id)]
        assert kinds.count("attempt_lost") == 1
        [resumed] = [event for event in happened(client, job.id) if event.type == "job_resumed"]
        assert resumed.data["step"] >= 50


def wait_until_resumed(client: Client, job_id: str) -> None:
    until = time.monotonic() + 60
    while not any(event.type == "job_resumed" for event in client.events(job_id)):
        assert time.monotonic() < until, client.logs(job_id)
        time.sleep(0.2)


def test_a_stopped_stack_drains_and_the_next_start_finds_and_finishes_everything(
    own_stack: Stack, start_again: Callable[[], Stack], tmp_path: Path
) -> None:
    with own_stack.client() as client:
        job = submit(client, tmp_path, steps=1000)
        wait_for_checkpoint(client, job.id)
    stop_stack(own_stack)
    assert not psutil.pid_exists(own_stack.process.pid)
    with start_again().client() as client:
        assert job.spec["dataset_id"] in {dataset.id for dataset in client.list_datasets()}
        done = client.wait(job.id)
        assert done.state == "succeeded", client.logs(job.id)
        kinds = [event.type for event in happened(client, job.id)]
        # A drained attempt is released with a checkpoint of its last step. It is neither lost nor failed.
        assert "attempt_released" in kinds
        assert "attempt_lost" not in kinds
        steps = [point.step for point in client.metrics(job.id, names=["loss"])]
        assert steps == list(range(1, 1001))


def test_a_killed_supervisor_loses_no_accepted_job(
    own_stack: Stack, start_again: Callable[[], Stack], tmp_path: Path
) -> None:
    with own_stack.client() as client:
        job = submit(client, tmp_path, steps=200)
    os.kill(own_stack.process.pid, signal.SIGKILL)
    own_stack.process.wait()
    with start_again().client() as client:
        assert client.wait(job.id).state == "succeeded", client.logs(job.id)
