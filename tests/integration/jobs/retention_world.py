"""Simulates workers, users and the passing of time for the collector, and lists what is stored."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import select, text

from app.datasets.service import DatasetService
from app.db.session import Sessions, transaction
from app.db.tables import Artifact, Checkpoint, Dataset
from app.domain.artifact import StoredFile
from app.domain.hardware import machine_fingerprint
from app.domain.ids import new_id
from app.domain.storage_keys import attempt_folder, dataset_key
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.retention.collector import Collector
from app.settings import Settings
from app.storage import HALF_WRITTEN, Storage

HOUR = 3600.0
DAY = 24 * HOUR
INSTANTS = {
    "attempts": "ended_at",
    "jobs": "finished_at",
    "deleted_objects": "due_at",
    "datasets": "expires_at",
}


class World:
    def __init__(self, settings: Settings, sessions: Sessions, project_id: str) -> None:
        self.sessions, self.project_id = sessions, project_id
        self.storage = Storage(settings.storage)
        self.collector = Collector(settings, sessions, self.storage)
        self.num_removed = 0
        self.bytes_path = settings.data_dir / "some-bytes"
        self.bytes_path.parent.mkdir(exist_ok=True)
        self.bytes_path.write_bytes(b"bytes")

    @property
    def root(self) -> Path:
        assert self.storage.root is not None
        return self.storage.root

    # Time and the dispatcher

    def pass_time(self, seconds: float) -> None:
        """Make every row and file older by this many seconds."""
        with transaction(self.sessions) as session:
            for table, column in INSTANTS.items():
                past = f"UPDATE {table} SET {column} = {column} - make_interval(secs => :seconds)"
                session.execute(text(past), {"seconds": seconds})
        for path in self.root.rglob("*"):
            changed_at = path.stat().st_mtime - seconds
            os.utime(path, (changed_at, changed_at))

    def collect(self) -> None:
        """Run the collector's two tasks, including the hourly search."""
        before = self.stored()
        self.collector.search_at = 0
        self.collector.retain()
        self.collector.collect()
        self.num_removed += len(before - self.stored())

    # Workers

    def put(self, key: str) -> str:
        self.storage.put_file(key, self.bytes_path, "name")
        return key

    def store(self, claim: Claim, path: str) -> str:
        return self.put(f"{attempt_folder(claim.project_id, claim.job_id, claim.attempt)}/{path}")

    def store_checkpoint(self, claim: Claim, step: int) -> Sequence[StoredFile]:
        folder = attempt_folder(claim.project_id, claim.job_id, claim.attempt)
        names = ("state.json", "w.bin")
        return [self.storage.put_file(f"{folder}/checkpoints/{step}/{name}", self.bytes_path, name) for name in names]

    def save_checkpoint(self, claim: Claim, step: int) -> list[str]:
        files = self.store_checkpoint(claim, step)
        self.write(claim, lambda attempt: attempt.save_checkpoint(step, files, "1" * 64, machine_fingerprint({})))
        return [file.key for file in files]

    def succeed(self, claim: Claim) -> None:
        folder = attempt_folder(claim.project_id, claim.job_id, claim.attempt)
        names = ("adapter_config.json", "adapter_model.safetensors", "adapter.tar")
        stored = [self.storage.put_file(f"{folder}/result/{name}", self.bytes_path, name) for name in names]
        manifest = {"base_model": {"name": "tiny", "revision": "1"}}
        self.write(claim, lambda attempt: attempt.publish(manifest, stored[:-1], stored[-1]))

    def release(self, claim: Claim) -> None:
        self.write(claim, AttemptService.release)

    def lose(self, claim: Claim) -> None:
        """Let the lease lapse, as if the worker had sent no heartbeat."""
        with transaction(self.sessions) as session:
            past = "UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second' WHERE id = :id"
            session.execute(text(f"{past} AND lease_until IS NOT NULL"), {"id": claim.job_id})
        with transaction(self.sessions) as session:
            QueueService(session).recover_lost_work()

    def write(self, claim: Claim, change: Callable[[AttemptService], object]) -> None:
        with transaction(self.sessions) as session:
            change(AttemptService(session, claim))

    # Users

    def upload(self, expires_after_seconds: float | None = None) -> str:
        id = new_id("file")
        stored = self.storage.put_file(dataset_key(self.project_id, id), self.bytes_path, "rows.jsonl")
        with transaction(self.sessions) as session:
            dataset = DatasetService(session).add(self.project_id, id, "rows.jsonl", stored, expires_after_seconds)
            dataset.state = "ready"
        return id

    def upload_and_die(self) -> str:
        """Store a dataset's bytes without its row, as if the server had been killed in between."""
        return self.put(dataset_key(self.project_id, new_id("file")))

    def die_uploading(self) -> Path:
        path = self.root / f"{dataset_key(self.project_id, new_id('file'))}#1"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        return path

    # What is stored, and what rows name

    def stored(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}

    def half_written(self) -> set[str]:
        return {key for key in self.stored() if HALF_WRITTEN.fullmatch(key)}

    def named(self) -> set[str]:
        with transaction(self.sessions) as session:
            keys = set(session.scalars(select(Artifact.storage_key))) | set(
                session.scalars(select(Dataset.storage_key))
            )
            checkpoints = session.scalars(select(Checkpoint.files)).all()
        return keys | {file["key"] for files in checkpoints for file in files}
