"""Which checkpoints stay in storage, and from which of them an attempt resumes."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, select

from app.db.session import Sessions, transaction
from app.db.tables import Checkpoint, DeletedObject
from app.dispatcher import Dispatcher
from app.domain.artifact import StoredFile
from app.domain.events.job_events import Evaluated
from app.domain.jobs.state import JobPhase
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.service import JobService
from app.settings import Settings
from app.storage import Storage
from tests.integration.jobs.conftest import MACHINE, events_of
from worker.attempt import fenced_writer
from worker.attempt.runner import AttemptRunner
from worker.training.runtime.messages import CheckpointWritten, EventMessage, PhaseEntered

Post = Callable[..., str]
Take = Callable[..., Claim]


@pytest.fixture
def save(sessions: Sessions, storage: Storage, tmp_path: Path) -> Callable[[Claim, int], None]:
    """Store a checkpoint of two files, as a worker does."""

    def save(claim: Claim, step: int) -> None:
        (tmp_path / "file").write_text(f"attempt {claim.attempt}, step {step}")
        prefix = f"{claim.project_id}/jobs/{claim.job_id}/{claim.attempt}/checkpoints/{step}"
        files = [storage.put_file(f"{prefix}/{name}", tmp_path / "file", name) for name in ("state.json", "w.bin")]
        with transaction(sessions) as session:
            AttemptService(session, claim).save_checkpoint(step, files, "1" * 64, MACHINE.fingerprint)

    return save


def kept(sessions: Sessions, job_id: str) -> list[tuple[int, int]]:
    """(attempt, step), the furthest first."""
    with transaction(sessions) as session:
        query = select(Checkpoint.attempt, Checkpoint.step).where(Checkpoint.job_id == job_id)
        return [
            tuple(row) for row in session.execute(query.order_by(Checkpoint.step.desc(), Checkpoint.attempt.desc()))
        ]


def release(sessions: Sessions, claim: Claim) -> None:
    with transaction(sessions) as session:
        AttemptService(session, claim).release()


def test_the_spec_decides_how_many_checkpoints_are_kept(
    sessions: Sessions,
    settings: Settings,
    storage: Storage,
    post: Post,
    claim: Take,
    save: Callable[[Claim, int], None],
) -> None:
    """Counted over all attempts. Other jobs' checkpoints are kept, and the bytes of the dropped ones are deleted."""
    other = post(training={"epochs": 1, "keep_checkpoints": 1})
    save(claim(), 1)
    id = post(training={"epochs": 1, "keep_checkpoints": 2})
    first = claim()
    for step in (10, 20):
        save(first, step)
    assert kept(sessions, id) == [(1, 20), (1, 10)]
    release(sessions, first)
    second = claim()
    for step in (30, 40):
        save(second, step)
    assert kept(sessions, id) == [(2, 40), (2, 30)]
    assert kept(sessions, other) == [(1, 1)]
    with transaction(sessions) as session:
        removed = set(session.scalars(select(DeletedObject.storage_key)))
    prefix = f"{first.project_id}/jobs/{id}/1/checkpoints"
    assert removed == {f"{prefix}/{step}/{name}" for step in (10, 20) for name in ("state.json", "w.bin")}

    Dispatcher(settings, sessions).collect()
    for key in removed:
        with pytest.raises(FileNotFoundError):
            list(storage.read(key))
    assert b"".join(storage.read(f"{second.project_id}/jobs/{id}/2/checkpoints/40/w.bin")) == b"attempt 2, step 40"


def test_a_checkpoint_saved_twice_is_kept_once(
    sessions: Sessions, post: Post, claim: Take, save: Callable[[Claim, int], None]
) -> None:
    """A worker that lost the answer to its commit repeats it."""
    id, held = post(), claim()
    for step in (1, 2, 3, 4, 4):
        save(held, step)
    assert kept(sessions, id) == [(1, 4), (1, 3), (1, 2)]


def test_an_attempt_resumes_from_the_furthest_intact_checkpoint(
    sessions: Sessions,
    settings: Settings,
    storage: Storage,
    project_id: str,
    post: Post,
    claim: Take,
    save: Callable[[Claim, int], None],
    attempt_of: Callable[[Claim], AttemptRunner],
) -> None:
    id, held = post(), claim()
    for step in (10, 20, 30):
        save(held, step)
    prefix = f"{project_id}/jobs/{id}/1/checkpoints"
    storage.delete(f"{prefix}/30/w.bin")
    assert storage.root is not None
    (storage.root / f"{prefix}/20/state.json").write_text("torn")

    attempt = attempt_of(held)
    found = attempt.input_fetcher.fetch_checkpoint(attempt.write(AttemptService.checkpoints, "read_inputs"))

    assert found is not None
    assert (found / "w.bin").read_text() == "attempt 1, step 10"
    assert kept(sessions, id) == [(1, 10)]
    with transaction(sessions) as session:
        assert events_of(session, project_id, id)[-2:] == ["warning_issued", "warning_issued"]
    shutil.rmtree(found)
    storage.delete(f"{prefix}/10/w.bin")
    assert attempt.input_fetcher.fetch_checkpoint(attempt.write(AttemptService.checkpoints, "read_inputs")) is None, (
        "the attempt starts from the beginning"
    )


def test_a_checkpoints_files_are_checked_when_fetched(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("whole")
    stored = storage.put_file("default/thing", tmp_path / "file", "file")
    storage.fetch(stored, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_text() == "whole"
    wrong = StoredFile(**stored.model_dump() | {"sha256": "0" * 64})
    with pytest.raises(OSError, match="has digest"):
        storage.fetch(wrong, tmp_path / "fetched")


@contextmanager
def no_connections(database_url: str) -> Iterator[None]:
    """An outage of this one database."""
    url = make_url(database_url)
    server = {"host": url.query["host"], "user": "postgres", "dbname": "postgres", "autocommit": True}
    with psycopg.connect(**server) as admin:
        admin.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false")
        admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{url.database}'")
        try:
            yield
        finally:
            admin.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true")


def test_during_an_outage_only_the_newest_checkpoint_waits(
    monkeypatch: pytest.MonkeyPatch,
    database_url: str,
    sessions: Sessions,
    post: Post,
    claim: Take,
    attempt_of: Callable[[Claim], AttemptRunner],
) -> None:
    """Checkpoints do not pile up on disk while events cannot be written, and the events are not lost."""
    monkeypatch.setattr(fenced_writer, "PATIENCE_SECONDS", 0.1)
    id, held = post(), claim()
    attempt = attempt_of(held)
    attempt.folder.mkdir(parents=True)
    attempt.reporter.open(attempt.folder)
    attempt.event_reporter.report(JobPhase.training)
    folders = [attempt.output_uploader.make_folder() / f"step-{step}" for step in range(1, 6)]
    with no_connections(database_url):
        for step, folder in enumerate(folders, start=1):
            folder.mkdir()
            (folder / "w.bin").write_text("weights")
            attempt.messages.handle(PhaseEntered(phase=JobPhase.evaluating))
            attempt.messages.handle(
                EventMessage(event=Evaluated(step=step, validation_loss=1, validation_token_accuracy=1))
            )
            attempt.messages.handle(PhaseEntered(phase=JobPhase.training))
            attempt.messages.handle(CheckpointWritten(step=step, path=folder, machine=MACHINE.fingerprint))
        assert len([folder for folder in folders if folder.exists()]) <= 2, "the one being uploaded, and the newest"
        assert folders[-1].exists()
    attempt.event_reporter.write_queued()
    with transaction(sessions) as session:
        assert JobService(session).get(held.project_id, id).phase == JobPhase.training
        recorded = [event for event in events_of(session, held.project_id, id)[3:] if event != "checkpoint_saved"]
        assert recorded == ["phase_changed", "evaluated", "phase_changed"] * len(folders), "in order"
    attempt.checkpoint_uploader.wait()
    assert kept(sessions, id)[0] == (1, 5)
    attempt.reporter.close()
