"""Tests how workers register and report that they are online, in the real process and thread."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import redis
from fastapi.testclient import TestClient

from app.outbox import TASKS, create_wakeup_publisher
from app.settings import Settings
from worker.host.disk_space import DiskSpace
from worker.host.hardware import find_machine, find_versions
from worker.host.registration import Presence

ROOT = Path(__file__).parents[3]
ListWorkers = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def list_workers(api: TestClient) -> ListWorkers:
    def ask() -> list[dict[str, Any]]:
        answer = api.get("/workers")
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    return ask


@pytest.fixture
def draining() -> threading.Event:
    return threading.Event()


@pytest.fixture
def presence(settings: Settings, draining: threading.Event, monkeypatch: pytest.MonkeyPatch) -> Iterator[Presence]:
    for name in ("WANDB_API_KEY", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    fast = settings.model_copy(
        update={"heartbeat_seconds": 0.1, "lease_seconds": 1.0, "worker_labels": "pool=a,gpu=4090"}
    )
    presence = Presence(fast, ["training"], draining, DiskSpace(fast))
    presence.start()
    yield presence
    draining.set()
    presence.end()


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends
        time.sleep(0.05)
    return found


def test_a_worker_registers_what_it_is(presence: Presence, list_workers: ListWorkers) -> None:
    [worker] = wait_until(list_workers)
    machine = find_machine()
    assert worker["id"] == machine.worker_id
    assert (worker["device"], worker["memory_gb"]) == (machine.device, machine.memory_gb)
    assert worker["device_name"]
    assert worker["labels"] == {"pool": "a", "gpu": "4090"}
    assert (worker["num_gpus"] > 0) is (machine.device == "cuda")
    assert 0 < worker["free_memory_gb"] <= worker["memory_gb"]
    assert (worker["queues"], worker["online"], worker["draining"]) == (["training"], True, False)
    assert worker["versions"] == find_versions()
    assert worker["integrations"] == ["tensorboard", "wandb"]
    assert {"python", "torch", "transformers", "peft"} <= worker["versions"].keys()


def test_heartbeats_continue_and_draining_is_reported_at_once(
    presence: Presence, list_workers: ListWorkers, settings: Settings, draining: threading.Event
) -> None:
    [first] = wait_until(list_workers)
    [later] = wait_until(lambda: [worker for worker in list_workers() if worker["seen_at"] > first["seen_at"]])
    assert later["started_at"] == first["started_at"]
    assert later["free_memory_gb"]
    draining.set()
    [worker] = wait_until(lambda: [worker for worker in list_workers() if worker["draining"]])
    assert worker["online"]
    presence.end()
    assert list_workers() == []


def test_an_outage_of_postgres_costs_only_heartbeats(
    presence: Presence, list_workers: ListWorkers, outage: Callable[[], AbstractContextManager[None]]
) -> None:
    [before] = wait_until(list_workers)
    with outage():
        time.sleep(1.5)
    # The lease of the last heartbeat before the outage has expired, so a worker that is online has sent another one.
    [after] = wait_until(lambda: [worker for worker in list_workers() if worker["online"]])
    assert after["seen_at"] > before["seen_at"]
    assert after["started_at"] == before["started_at"]


def test_a_worker_whose_row_was_deleted_registers_again(
    presence: Presence, list_workers: ListWorkers, sessions: Any
) -> None:
    [before] = wait_until(list_workers)
    with sessions.begin() as session:
        session.connection().exec_driver_sql("DELETE FROM workers")
    [after] = wait_until(list_workers)
    assert after["started_at"] > before["started_at"]


def send_malformed(settings: Settings) -> None:
    """Send 1,000 entries to a queue: no JSON, JSON of another shape, and messages that Celery cannot read. Then send a
    command to shut down and a valid message."""
    with redis.Redis.from_url(settings.redis_url) as client, create_wakeup_publisher(settings.broker_url) as publisher:
        publisher.send_task(TASKS["light"].name, queue="aside")
        message = json.loads(client.rpop("aside"))  # type: ignore[arg-type]
        unread = [
            message | {"body": "not base64"},
            message | {"content-type": "application/x-python-serialize"},
            message | {"headers": message["headers"] | {"task": "os.system"}},
            message | {"properties": message["properties"] | {"delivery_info": None}},
            message | {"properties": []},
            {name: value for name, value in message.items() if name != "properties"},
        ]
        entries = ["garbage{", "", b"\xff", "null", "[]", "7", '"word"', "{}", *map(json.dumps, unread)]
        client.lpush("light", *itertools.islice(itertools.cycle(entries), 1000))
        publisher.control.broadcast("shutdown")
        wait_until(lambda: client.llen("light") == 0)
        publisher.send_task(TASKS["light"].name, queue="light")
        wait_until(lambda: client.llen("light") == 0)


def test_a_celery_worker_registers_and_unregisters(
    settings: Settings, list_workers: ListWorkers, tmp_path: Path
) -> None:
    """A killed worker goes offline when its lease expires. No message through Redis ends a worker."""
    environment = os.environ | {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "TUNEWRIGHT_DATA_DIR": str(tmp_path),
        "TUNEWRIGHT_CACHE_DIR": str(tmp_path / "cache"),
        "TUNEWRIGHT_STANDBY_PROCESS": "false",
        "TUNEWRIGHT_LEASE_SECONDS": "2",
        "TUNEWRIGHT_HEARTBEAT_SECONDS": "0.3",
    }
    options = ["--pool", "solo", "--queues", "light", "--without-gossip", "--without-mingle"]
    command = [sys.executable, "-m", "celery", "-A", "worker.main", "worker", *options]
    for end in (signal.SIGTERM, signal.SIGKILL):
        with (tmp_path / "worker.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            [worker] = wait_until(lambda: [each for each in list_workers() if each["online"]])
            assert worker["id"].endswith(f"-{process.pid}")
            assert (worker["queues"], worker["busy"]) == (["light"], False)
            if end is signal.SIGTERM:
                send_malformed(settings)
                assert process.poll() is None, (tmp_path / "worker.log").read_text()[-2000:]
            process.send_signal(end)
            process.wait(timeout=30)
        finally:
            process.kill()
            process.wait()
        if end is signal.SIGTERM:
            assert list_workers() == []
    [worker] = wait_until(lambda: [each for each in list_workers() if not each["online"]])
    assert worker["seen_at"]
