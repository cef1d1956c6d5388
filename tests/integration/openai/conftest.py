"""Provides OpenAI's own client for a server on a real socket. Tests run the light worker's tasks themselves."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from openai import OpenAI

from app.db.session import Sessions, transaction
from app.domain.hardware import machine_fingerprint
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.settings import Settings
from app.storage import Storage
from app.uploads.service import join_next
from tests.fixtures.openai_client import openai_client
from tests.integration.adapters.conftest import FILES, MANIFEST, tar_of
from tests.integration.datasets.conftest import ROWS, inspect_all, jsonl, place
from tests.integration.jobs.conftest import base_model, claim, make_dataset, storage

__all__ = ["base_model", "claim", "inspect_all", "make_dataset", "place", "storage"]

DATA = jsonl(ROWS)
METRICS = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,2.5,0.25,,\n"
ARCHIVE = tar_of(FILES)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Limit uploads to a size that tests can exceed."""
    return settings.model_copy(update={"max_upload_bytes": 100_000})


@pytest.fixture
def key(make_key: Callable[..., str], project_id: str) -> str:
    return make_key()


@pytest.fixture
def sdk(live_server: str, key: str) -> Iterator[OpenAI]:
    with openai_client(live_server, key) as client:
        yield client


@pytest.fixture
def native(live_server: str, key: str) -> Iterator[httpx2.Client]:
    """Return a client for the native face of the same server and project."""
    with httpx2.Client(base_url=live_server, headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


@pytest.fixture
def join_all(sessions: Sessions, storage: Storage) -> Callable[[], int]:
    """Return a function that joins the parts of completed uploads, as the light worker does, and returns their
    number."""
    return lambda: sum(1 for _ in iter(lambda: join_next(sessions, storage, "here-1"), False))


class Finished(NamedTuple):
    id: str
    model: str
    metrics: str
    """Is the id of the CSV file among the result files."""
    archive: str = ""
    """Is the id of an adapter's archive. A full model has none."""


@pytest.fixture
def finish(
    sdk: OpenAI,
    base_model: str,
    make_dataset: Callable[..., str],
    claim: Callable[..., Claim],
    sessions: Sessions,
    storage: Storage,
    tmp_path: Path,
) -> Callable[..., Finished]:
    """Return a function that creates a job and publishes its result as the worker does: stored files, then rows in one
    transaction."""

    def store(held: Claim, name: str, data: bytes) -> Any:
        source = tmp_path / name
        source.write_bytes(data)
        return storage.put_file(f"{held.project_id}/jobs/{held.job_id}/{held.attempt}/{name}", source, name)

    def make(**fields: Any) -> Finished:
        job = sdk.fine_tuning.jobs.create(model=base_model, training_file=make_dataset(), **fields)
        held = claim()
        assert held.job_id == job.id
        stored = [store(held, name, data) for name, data in FILES.items()]
        is_whole = job.tunewright["spec"]["method"] == "full"
        archive = None if is_whole else store(held, "adapter.tar", ARCHIVE)
        metrics = store(held, "step_metrics.csv", METRICS)
        with transaction(sessions) as session:
            AttemptService(session, held).save_checkpoint(5, [], "1" * 64, machine_fingerprint({}))
            AttemptService(session, held).publish(MANIFEST, stored, archive, [metrics])
        done = sdk.fine_tuning.jobs.retrieve(job.id)
        assert done.fine_tuned_model is not None
        return Finished(job.id, done.fine_tuned_model, *done.result_files)

    return make


class Asked:
    """Records the answers to a client's requests, including its retries."""

    def __init__(self, client: OpenAI) -> None:
        self.answers: list[httpx2.Response] = []
        client._client.event_hooks["response"].append(self.answers.append)


def as_file(data: bytes, name: str) -> io.BytesIO:
    """Return an open file that has a name."""
    file = io.BytesIO(data)
    file.name = name
    return file
