from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, update

from app.datasets.repository import DatasetRepository
from app.db.session import Sessions, transaction
from app.db.tables import Job, Upload, Worker
from app.dispatcher import Dispatcher
from app.domain.hardware import WorkerHardware
from app.jobs.queue.service import QueueService
from app.projects.lookup import find_or_create_project
from app.settings import Settings
from app.storage import Storage
from app.uploads.repository import UploadRepository
from app.uploads.service import join_next
from app.workers.service import WorkerService
from tests.integration.jobs.conftest import queued_job

BIG = WorkerHardware("gpu-1-17", "cuda", 24.15, "NVIDIA L4")
SMALL = WorkerHardware("cpu-1-18", "cpu", 8.0)


def register(sessions: Sessions, *machines: WorkerHardware, lease: float = 60) -> None:
    with transaction(sessions) as session:
        for machine in machines:
            about = {"torch": "2.13"}, ["training"], ["wandb", "mlflow"]
            WorkerService(session).register(machine, *about, draining=False, disk_full=False, lease=lease)


def test_every_key_sees_all_workers(
    api: TestClient, sessions: Sessions, as_project: Callable[[str], dict[str, str]]
) -> None:
    register(sessions, BIG, SMALL)
    answer = api.get("/workers").json()
    assert [worker["id"] for worker in answer["items"]] == ["cpu-1-18", "gpu-1-17"]
    last = answer["items"][-1]
    facts = {"device": "cuda", "device_name": "NVIDIA L4", "memory_gb": 24.15, "queues": ["training"]}
    facts |= {"versions": {"torch": "2.13"}, "online": True, "draining": False, "disk_full": False, "busy": False}
    facts |= {"integrations": ["mlflow", "wandb"]}
    assert facts.items() <= last.items()
    assert api.get("/workers", headers=as_project("other")).json() == answer


def test_online_workers_come_first(api: TestClient, sessions: Sessions) -> None:
    register(sessions, SMALL, lease=0)
    register(sessions, BIG)
    assert [(each["id"], each["online"]) for each in api.get("/workers").json()["items"]] == [
        (BIG.worker_id, True),
        (SMALL.worker_id, False),
    ]


@pytest.mark.parametrize("state", ["running", "pausing", "cancelling", "queued"])
def test_a_worker_that_holds_a_job_is_busy_and_its_job_is_not_shown(
    api: TestClient, sessions: Sessions, state: str
) -> None:
    """A job is `queued` and still held if it was paused and resumed before its attempt released it."""
    register(sessions, BIG, SMALL)
    with transaction(sessions) as session:
        stranger = find_or_create_project(session, "stranger")
        session.add(queued_job(stranger))
        session.flush()
        job = QueueService(session).claim(BIG, 60)
        assert job is not None
        if state != "running":
            session.execute(update(Job).values(state=state))
    answer = api.get("/workers")
    assert {each["id"]: each["busy"] for each in answer.json()["items"]} == {"gpu-1-17": True, "cpu-1-18": False}
    assert job.id not in answer.text
    assert stranger not in answer.text


def test_a_worker_shows_its_job_to_the_jobs_project(
    api: TestClient, sessions: Sessions, project_id: str, as_project: Callable[[str], dict[str, str]]
) -> None:
    register(sessions, BIG, SMALL)
    with transaction(sessions) as session:
        session.add(queued_job(project_id))
        session.flush()
        job = QueueService(session).claim(BIG, 60)
    assert job is not None

    def shown(**headers: str) -> dict[str, tuple[bool, str | None]]:
        items = api.get("/workers", headers=headers).json()["items"]
        return {each["id"]: (each["busy"], each["job_id"]) for each in items}

    assert shown() == {"gpu-1-17": (True, job.id), "cpu-1-18": (False, None)}
    assert shown(**as_project("other")) == {"gpu-1-17": (True, None), "cpu-1-18": (False, None)}
    with transaction(sessions) as session:
        session.execute(update(Job).values(state="succeeded", lease_until=None, worker_id=None))
    assert shown()["gpu-1-17"] == (False, None)


def test_a_light_worker_is_busy_while_it_inspects_a_dataset_or_joins_an_upload(
    api: TestClient, sessions: Sessions, settings: Settings
) -> None:
    def busy() -> list[str]:
        return [each["id"] for each in api.get("/workers").json()["items"] if each["busy"]]

    register(sessions, BIG, SMALL)
    assert api.put("/datasets", content=b'{"text": "a"}\n').is_success
    assert busy() == []
    with transaction(sessions) as session:
        dataset = DatasetRepository(session).claim_for_inspection(SMALL.worker_id, 60)
        assert dataset is not None
    assert busy() == [SMALL.worker_id]
    with transaction(sessions) as session:
        assert DatasetRepository(session).conclude(dataset, state="ready")
    assert busy() == []

    upload_id = api.post("/uploads", json={"filename": "rows.jsonl", "bytes": 14}).json()["id"]
    part = api.post(f"/uploads/{upload_id}/parts", content=b'{"text": "a"}\n')
    assert api.post(f"/uploads/{upload_id}/complete", json={"part_ids": [part.json()["id"]]}).is_success
    with transaction(sessions) as session:
        assert UploadRepository(session).claim(BIG.worker_id, 60) is not None
    assert busy() == [BIG.worker_id]
    with transaction(sessions) as session:
        session.execute(update(Upload).values(joining_until=None))
    assert join_next(sessions, Storage(settings.storage), BIG.worker_id)
    assert busy() == []


def test_readiness_shows_online_workers_and_depends_on_none(api: TestClient, sessions: Sessions) -> None:
    ready = api.get("/readyz")
    assert (ready.status_code, ready.json()["workers"]) == (200, {"training": 0, "light": 0})
    register(sessions, BIG, SMALL)
    register(sessions, BIG._replace(worker_id="gone-1"), lease=0)
    with transaction(sessions) as session:
        service = WorkerService(session)
        service.register(
            SMALL._replace(worker_id="both-1"), {}, ["training", "light"], draining=False, disk_full=False, lease=60
        )
        service.register(SMALL._replace(worker_id="last-1"), {}, ["light"], draining=True, disk_full=False, lease=60)
    assert api.get("/readyz").json() == {"database": "ok", "redis": "ok", "workers": {"training": 3, "light": 1}}


def test_a_worker_that_restarts_with_its_old_id_is_new(api: TestClient, sessions: Sessions) -> None:
    register(sessions, BIG, lease=0)
    [old] = api.get("/workers").json()["items"]
    register(sessions, BIG._replace(memory_gb=80.0))
    [new] = api.get("/workers").json()["items"]
    assert (new["memory_gb"], new["online"]) == (80.0, True)
    assert new["started_at"] > old["started_at"]


def test_a_heartbeat_keeps_a_worker_online(api: TestClient, sessions: Sessions) -> None:
    register(sessions, BIG, lease=0)
    with transaction(sessions) as session:
        assert WorkerService(session).sign(BIG.worker_id, draining=True, disk_full=True, lease=60)
        assert not WorkerService(session).sign("nobody-1", draining=False, disk_full=False, lease=60)
    [worker] = api.get("/workers").json()["items"]
    assert (worker["online"], worker["draining"], worker["disk_full"]) == (True, True, True)


def test_the_dispatcher_deletes_workers_not_seen_for_a_day(
    api: TestClient, sessions: Sessions, settings: Settings
) -> None:
    register(sessions, BIG, SMALL, lease=0)
    Path(settings.data_dir).mkdir(exist_ok=True)
    dispatcher = Dispatcher(settings, sessions)
    for hours, expected in ((23, ["cpu-1-18", "gpu-1-17"]), (25, ["gpu-1-17"])):
        with transaction(sessions) as session:
            long_ago = func.clock_timestamp() - timedelta(hours=hours)
            session.execute(update(Worker).where(Worker.id == SMALL.worker_id).values(seen_at=long_ago))
        dispatcher.collect()
        assert [each["id"] for each in api.get("/workers").json()["items"]] == expected
