"""Fixtures that insert a base model and datasets as rows, so that the queue can be tested without training."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.db.session import Sessions, transaction
from app.db.tables import Dataset, Job, RegisteredModel
from app.domain.hardware import WorkerHardware
from app.domain.ids import new_id
from app.domain.jobs.state import JobState
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.jobs.service import JobService
from app.settings import Settings
from app.storage import Storage
from tests.fixtures.models import register_model
from tests.fixtures.tiny_models import build_tiny_model, write_rows
from worker.attempt.runner import AttemptRunner
from worker.host.disk_space import DiskSpace
from worker.host.hardware import find_training_machine
from worker.host.model_cache import ModelCache
from worker.processes.standby import StandbyProcess

MACHINE = WorkerHardware("here-1", "cpu", 16.0)


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return Storage(settings.storage)


@pytest.fixture
def attempt_of(
    settings: Settings, sessions: Sessions, storage: Storage, redis_url: str
) -> Iterator[Callable[[Claim], AttemptRunner]]:
    with redis.Redis.from_url(redis_url) as client:
        drain, standby, disk_space = threading.Event(), StandbyProcess(wanted=False), DiskSpace(settings)
        yield lambda claim: AttemptRunner(
            settings, sessions, storage, client, claim, drain, standby, disk_space, ModelCache(settings, storage)
        )


@pytest.fixture
def base_model(sessions: Sessions) -> str:
    with transaction(sessions) as session:
        session.add(
            RegisteredModel(
                id=new_id("model"),
                name="tiny",
                state="ready",
                source="/nowhere",
                revision="1" * 64,
                architecture="LlamaForCausalLM",
                num_parameters=1000,
                max_seq_len=128,
                linear_modules=["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"],
                config={},
            )
        )
    return "tiny"


@pytest.fixture
def make_dataset(sessions: Sessions, project_id: str) -> Callable[..., str]:
    def make(state: str = "ready", project: str = project_id) -> str:
        id = new_id("file")
        with transaction(sessions) as session:
            session.add(
                Dataset(
                    id=id,
                    project_id=project,
                    filename="rows.jsonl",
                    state=state,
                    storage_key=f"{project}/datasets/{id}",
                    size=10,
                    sha256="0" * 64,
                )
            )
        return id

    return make


@pytest.fixture
def make_spec(base_model: str, make_dataset: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    def make(**fields: Any) -> dict[str, Any]:
        return {"base_model": base_model, "dataset_id": make_dataset(), "training": {"epochs": 1}} | fields

    return make


@pytest.fixture
def post(sessions: Sessions, project_id: str, make_spec: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """Submit a job and return its id."""

    def submit(**fields: Any) -> str:
        with transaction(sessions) as session:
            return JobService(session).submit(project_id, make_spec(**fields)).id

    return submit


@pytest.fixture
def claim(sessions: Sessions) -> Callable[..., Claim | None]:
    def take(machine: WorkerHardware = MACHINE, lease_seconds: float = 60) -> Claim | None:
        with transaction(sessions) as session:
            job = QueueService(session).claim(machine, lease_seconds)
            return Claim(job.project_id, job.id, job.attempt, job.claim_token or "") if job else None

    return take


@pytest.fixture
def state_of(sessions: Sessions) -> Callable[[str], JobState]:
    def read(id: str) -> JobState:
        with transaction(sessions) as session:
            job = session.get(Job, id)
            assert job is not None
            return JobState(job.state)

    return read


def events_of(session: Session, project_id: str, id: str) -> list[str]:
    return [event.type for event in JobService(session).jobs.events(project_id, id, 0, 1000)]


def queued_job(project_id: str, priority: int = 0) -> Job:
    """Return the row of a queued job that was never posted, so it needs no base model and no dataset."""
    spec = {"base_model": "tiny", "dataset_id": new_id("file"), "method": "lora", "max_retries": 0}
    spec |= {"suffix": None, "integrations": [], "training": {"max_steps": 1}}
    fields = {"state": "queued", "priority": priority, "base_model": "tiny", "method": "lora", "spec": spec}
    return Job(id=new_id("ftjob"), project_id=project_id, metadata_={}, min_memory_gb=0, device="auto", **fields)


@pytest.fixture
def hold(
    sessions: Sessions, settings: Settings, redis_url: str, storage: Storage, claim: Callable[..., Claim | None]
) -> Iterator[Callable[..., AttemptRunner]]:
    """Claim the next job as a worker with this number of training threads; return the attempt."""
    standby = StandbyProcess(wanted=False)
    with redis.Redis.from_url(redis_url) as client:

        def take(threads: int = 1) -> AttemptRunner:
            worker_settings = settings.model_copy(update={"training_threads": threads})
            held = claim(find_training_machine(threads))
            assert held is not None
            parts = threading.Event(), standby, DiskSpace(worker_settings), ModelCache(worker_settings, storage)
            attempt = AttemptRunner(worker_settings, sessions, storage, client, held, *parts)
            attempt.folder.mkdir(parents=True)
            return attempt

        yield take


@pytest.fixture
def trainable(
    sessions: Sessions, storage: Storage, base_model: str, make_dataset: Callable[..., str], tmp_path: Path
) -> str:
    """Store the model's files and a dataset's bytes, and return the dataset's id."""
    id, rows, folder = make_dataset(), write_rows(tmp_path / "rows.jsonl"), build_tiny_model(tmp_path / "tiny")
    files = register_model(sessions, storage, "whole", folder).files
    with transaction(sessions) as session:
        session.execute(update(RegisteredModel).values(files=files))
        dataset = session.get(Dataset, id)
        assert dataset is not None
        stored = storage.put_file(dataset.storage_key, rows, "rows.jsonl")
        dataset.size, dataset.sha256 = stored.size, stored.sha256
    assert hashlib.sha256(rows.read_bytes()).hexdigest() == stored.sha256
    return id
