"""A registry and a ready dataset, by rows, so that the queue can be tested without training."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from sqlalchemy.orm import Session

from app.db.session import Sessions, transaction
from app.db.tables import BaseModel, Dataset, Job
from app.domain.identity import new_id
from app.domain.job import JobState
from app.domain.machine import Machine
from app.jobs.queue import Claim, QueueRepository
from app.jobs.service import JobService
from app.settings import Settings
from app.storage import Storage
from worker.attempt import Attempt
from worker.room import Room
from worker.spare import Spare

MACHINE = Machine("here-1", "cpu", 16.0)


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return Storage(settings.storage)


@pytest.fixture
def attempt_of(
    settings: Settings, sessions: Sessions, storage: Storage, redis_url: str
) -> Iterator[Callable[[Claim], Attempt]]:
    with redis.Redis.from_url(redis_url) as client:
        drain, spare, room = threading.Event(), Spare(wanted=False), Room(settings)
        yield lambda claim: Attempt(settings, sessions, storage, client, claim, drain, spare, room)


@pytest.fixture
def base_model(sessions: Sessions) -> str:
    with transaction(sessions) as session:
        session.add(
            BaseModel(
                id=new_id("model"),
                name="tiny",
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
    """Submit a job; its id."""

    def submit(**fields: Any) -> str:
        with transaction(sessions) as session:
            return JobService(session).submit(project_id, make_spec(**fields)).id

    return submit


@pytest.fixture
def claim(sessions: Sessions) -> Callable[..., Claim | None]:
    def take(machine: Machine = MACHINE, lease_seconds: float = 60) -> Claim | None:
        with transaction(sessions) as session:
            job = QueueRepository(session).claim(machine, lease_seconds)
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
    """A row that nobody posted, so that it needs no registry and no dataset."""
    spec = {"base_model": "tiny", "dataset_id": new_id("file"), "method": "lora", "max_retries": 0}
    spec |= {"training": {"max_steps": 1}}
    fields = {"state": "queued", "priority": priority, "base_model": "tiny", "method": "lora", "spec": spec}
    return Job(id=new_id("ftjob"), project_id=project_id, metadata_={}, min_memory_gb=0, device="auto", **fields)
