"""Tests docs/two-machines.md without containers: two workers that share only the servers and a bucket, and a gated
model."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from moto.server import ThreadedMotoServer

from tests.acceptance.conftest import ROOT, Stack
from tests.acceptance.test_survival import find_worker, happened, upload
from tests.fixtures.hub import COMMIT, TOKEN, serving_hub
from tunewright import Client, Job

pytestmark = pytest.mark.ops

BUCKET = "bytes"
STEPS = 600


@pytest.fixture
def store() -> Iterator[dict[str, str]]:
    """Start an S3 server with an empty bucket; return the environment variables that name it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    credentials = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_REGION": "us-east-1"}
    bucket(url).create()
    yield {"STORAGE_URL": f"s3://{BUCKET}/team", "AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true", **credentials}
    server.stop()


def bucket(url: str) -> Any:
    """Return the bucket with its owner's credentials."""
    known = {"aws_access_key_id": "k", "aws_secret_access_key": "s3cret", "region_name": "us-east-1"}
    return boto3.resource("s3", endpoint_url=url, **known).Bucket(BUCKET)


@contextmanager
def second_worker(stack: Stack, folder: Path, store: dict[str, str]) -> Iterator[psutil.Process]:
    """Start a worker as on another machine: it knows the servers and the bucket, and has its own folders."""
    own = {"TUNEWRIGHT_DATA_DIR": str(folder / "data"), "TUNEWRIGHT_CACHE_DIR": str(folder / "cache")}
    kind = {"TUNEWRIGHT_TRAINING_THREADS": "1", "TUNEWRIGHT_WORKER_LABELS": "machine=second"}
    options = ["--pool", "solo", "--queues", "training", "--hostname", "second@%h", "--loglevel", "WARNING"]
    command = [sys.executable, "-m", "celery", "-A", "worker.main", "worker", *options]
    quiet = ["--without-gossip", "--without-mingle"]
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *quiet], cwd=ROOT, env=stack.environment() | store | own | kind, stdout=log, stderr=log
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0, (folder / "log").read_text()


def wait_until(client: Client, job: Job, condition: Callable[[Job], bool]) -> Job:
    end = time.monotonic() + 90
    while not condition(found := client.get_job(job.id)):
        assert not found.is_final, client.logs(job.id)
        assert time.monotonic() < end, client.logs(job.id)
        time.sleep(0.1)
    return found


def test_a_job_moves_between_machines_that_share_a_bucket(
    make_stack: Callable[..., Stack], store: dict[str, str], tiny_model: Path, tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    with serving_hub(files) as hub:
        hub.is_gated = True
        hub_settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
        times = {"TUNEWRIGHT_EXACT_RESUME_WAIT_SECONDS": "1", "TUNEWRIGHT_WORKER_LABELS": "machine=first"}
        stack = make_stack(**store, **hub_settings, **times)
        create_key = [sys.executable, "-m", "app.keys", "create", "--scope", "admin"]
        key = subprocess.run(create_key, cwd=ROOT, env=stack.environment(), check=True, capture_output=True, text=True)
        with Client(stack.server["url"], key.stdout.strip()) as admin:
            admin.create_model("gated", hub="org/name")
            model = admin.wait_for_model("gated")
        assert (model.state, model.revision) == ("ready", COMMIT)
    # The hub has stopped, so workers download the model from the bucket.
    first = find_worker(stack)
    other = tmp_path / "second"
    with stack.client() as client:
        with second_worker(stack, other, store) as second:
            os.kill(first.pid, signal.SIGSTOP)
            try:
                wanted = {"max_steps": STEPS, "batch_size": 2, "save_every": 200}
                job = client.create_job(base_model="gated", dataset_id=upload(client, tmp_path), training=wanted)
                wait_until(client, job, lambda job: job.step >= 10)
            finally:
                os.kill(first.pid, signal.SIGCONT)
            assert list((other / "cache" / "models").rglob("model.safetensors"))
            assert second.is_running()
        moved = wait_until(client, job, lambda job: job.attempt == 2 and bool(job.resolved[1:]))
        done = client.wait(job.id)
        assert done.state == "succeeded", client.logs(job.id)
        assert done.step == STEPS > moved.inexact_resumes[0]["step"] >= 10
        workers = [event.data["worker"] for event in happened(client, job.id) if event.type == "job_claimed"]
        assert len(set(workers)) == 2
        assert not done.exact
        assert "machine.threads" in done.inexact_resumes[0]["differs"]
        assert done.adapter_id
        assert [point.step for point in client.metrics(job.id, names=["loss"])] == list(range(1, STEPS + 1))
        client.download_adapter(done.adapter_id, tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    keys = [found.key for found in bucket(store["AWS_ENDPOINT_URL"]).objects.all()]
    assert any(key.startswith("team/models/") for key in keys)
    assert any(key.endswith("adapter_model.safetensors") for key in keys)
    assert not (other / "data" / "storage").exists()
    assert not list((other / "data" / "work").rglob("*.safetensors"))
