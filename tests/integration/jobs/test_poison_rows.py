"""Rows that a task of the dispatcher cannot handle: its process keeps running, and handles every other row."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import func, select, text, update

from app.db.session import Sessions, transaction
from app.db.tables import (
    Attempt,
    Checkpoint,
    Dataset,
    DeletedObject,
    Job,
    KeptAnswer,
    OutboxRow,
    ProjectDeletion,
    RegisteredModel,
    Upload,
    Worker,
)
from app.domain.ids import new_id
from app.jobs.queue.repository import Claim
from app.settings import Settings
from app.uploads.service import UploadService
from tests.integration.jobs.retention_world import World

ROOT = Path(__file__).parents[3]
LEASE_SECONDS = 2.0
MARKER = "s3cret-marker"
PROGRAM = """
from app import dispatcher
dispatcher.COLLECT_SECONDS = dispatcher.RETAIN_SECONDS = 0.5
dispatcher.main()
"""
REFUSE = f"""
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF to_jsonb(OLD) ->> TG_ARGV[0] = TG_ARGV[1] THEN
        RAISE EXCEPTION '{MARKER} %', OLD;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END $$
"""
LONG_AGO = datetime.now(UTC) - timedelta(days=400)

Check = Callable[[Any], object]


class Poison:
    """Inserts rows in pairs, one that a task can handle and one that it cannot."""

    def __init__(self, world: World, post: Callable[..., str], claim: Callable[..., Claim]) -> None:
        self.world, self.sessions, self.project_id = world, world.sessions, world.project_id
        self.post, self.claim = post, claim
        self.named: set[tuple[str, str]] = set()
        """The table and id of each row that must be set aside."""
        self.done: dict[str, Check] = {}
        """For each other row, a check that the task has handled it."""
        self.run(REFUSE)

    def run(self, statement: str) -> None:
        with transaction(self.sessions) as session:
            session.execute(text(statement))

    def add(self, row: Any) -> Any:
        with transaction(self.sessions) as session:
            session.add(row)
        return row

    def refuse(self, table: str, id: object, column: str = "id") -> None:
        trigger = f"CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW"
        self.run(f"{trigger} EXECUTE FUNCTION refuse('{column}', '{id}')")

    def set_aside(self, table: str, id: object) -> None:
        self.named.add((table, str(id)))

    def lost_jobs(self) -> None:
        bad, good = self.post(), self.post()
        assert {self.claim(lease_seconds=0).job_id for _ in range(2)} == {good, bad}
        self.refuse("jobs", bad)
        self.set_aside("jobs", bad)
        self.done["a lost job"] = lambda session: session.get_one(Job, good).state == "queued"

    def doomed_jobs(self) -> None:
        bad, good = self.post(priority=-5), self.post(priority=-5)
        with transaction(self.sessions) as session:
            datasets = [session.get_one(Job, id).spec["dataset_id"] for id in (bad, good)]
            session.execute(update(Dataset).where(Dataset.id.in_(datasets)).values(state="invalid"))
            session.execute(update(Job).where(Job.id == bad).values(spec=Job.spec.op("-")("objective")))
        self.set_aside("jobs", bad)
        self.done["a doomed job"] = lambda session: session.get_one(Job, good).state == "failed"

    def ended_jobs(self) -> None:
        """Finished jobs, each with an attempt to visit and a checkpoint to delete."""
        ids = self.post(), self.post()
        for _ in ids:
            held = self.claim()
            self.world.save_checkpoint(held, 1)
            self.world.succeed(held)
        bad, good = ids
        with transaction(self.sessions) as session:
            session.execute(update(Job).where(Job.id.in_(ids)).values(finished_at=LONG_AGO))
            session.execute(update(Attempt).where(Attempt.job_id.in_(ids)).values(ended_at=LONG_AGO))
            checkpoint = session.scalars(select(Checkpoint.id).where(Checkpoint.job_id == bad)).one()
        self.refuse("checkpoints", bad, "job_id")
        self.refuse("attempts", bad, "job_id")
        self.set_aside("checkpoints", checkpoint)
        self.set_aside("attempts", [self.project_id, bad, 1])
        visited = select(Attempt.orphans_collected_at).where(Attempt.job_id == good)
        left = select(func.count()).select_from(Checkpoint).where(Checkpoint.job_id == good)
        self.done["an attempt"] = lambda session: session.scalar(visited)
        self.done["a checkpoint"] = lambda session: session.scalar(left) == 0

    def wakeups(self) -> None:
        bad = self.add(OutboxRow(project_id=self.project_id, queue="unacked", task="worker.tasks.nothing"))
        self.set_aside("outbox", bad.id)
        self.done["wake-ups"] = lambda session: session.scalars(select(OutboxRow.id)).all() == [bad.id]

    def deleted_objects(self) -> None:
        key = self.world.put(f"{self.project_id}/datasets/dead")
        bad = self.add(DeletedObject(project_id=self.project_id, storage_key=f"../{MARKER}", due_at=LONG_AGO))
        self.add(DeletedObject(project_id=self.project_id, storage_key=key))
        self.set_aside("deleted_objects", bad.id)
        self.done["a deleted object"] = lambda _: self.world.storage.size_of(key) is None

    def datasets(self) -> None:
        bad, good = self.world.upload(-2), self.world.upload(-1)
        self.refuse("datasets", bad)
        self.set_aside("datasets", bad)
        self.done["an expired dataset"] = lambda session: session.get(Dataset, good) is None

    def uploads(self) -> None:
        with transaction(self.sessions) as session:
            service = UploadService(session)
            bad, good = [service.create(self.project_id, 10, "a", lasts_seconds=-age).id for age in (2, 1)]
        self.refuse("uploads", bad)
        self.set_aside("uploads", bad)
        self.done["an expired upload"] = lambda session: session.get_one(Upload, good).state == "expired"

    def models(self) -> None:
        removed = {"state": "removed", "source": "/nowhere"}
        bad = self.add(RegisteredModel(id=new_id("model"), name="bad", files=[{"path": MARKER}], **removed))
        good = self.add(RegisteredModel(id=new_id("model"), name="good", **removed))
        self.set_aside("base_models", bad.id)
        self.done["a removed model"] = lambda session: session.get(RegisteredModel, good.id) is None

    def deletions(self) -> None:
        bad = self.add(ProjectDeletion(id="proj-bad", name="bad", state=MARKER, created_at=LONG_AGO))
        good = self.add(ProjectDeletion(id="proj-good", name="good", state="clearing_workers"))
        self.set_aside("project_deletions", bad.id)
        self.done["a deletion"] = lambda session: session.get_one(ProjectDeletion, good.id).state == "finished"

    def forgotten(self) -> None:
        """Rows that one statement deletes in each table; only the statement of the bad row's table fails."""
        machine = {"device": "cpu", "memory_gb": 1.0, "machine_fingerprint": "0", "machine_facts": {}}
        self.add(Worker(id="old", seen_at=LONG_AGO, **machine))
        answer = {"request_sha256": "0", "status": 201, "location": "", "body": "", "created_at": LONG_AGO}
        self.add(KeptAnswer(project_id=self.project_id, key="bad", **answer))
        self.refuse("idempotency_keys", "bad", "key")
        self.done["an old worker"] = lambda session: session.get(Worker, "old") is None

    def undone(self) -> list[str]:
        with transaction(self.sessions) as session:
            return [name for name, check in self.done.items() if not check(session)]


@pytest.fixture
def poison(
    settings: Settings, sessions: Sessions, project_id: str, post: Callable[..., str], claim: Callable[..., Claim]
) -> Poison:
    poison = Poison(World(settings, sessions, project_id), post, claim)
    poison.ended_jobs()
    for fill in (poison.lost_jobs, poison.doomed_jobs, poison.wakeups, poison.deleted_objects, poison.datasets):
        fill()
    for fill in (poison.uploads, poison.models, poison.deletions, poison.forgotten):
        fill()
    with redis.Redis.from_url(settings.redis_url) as client:
        client.hset("unacked", "a message", "that kombu keeps here")
    return poison


@pytest.fixture
def dispatcher(settings: Settings, poison: Poison, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    environment = os.environ | {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "TUNEWRIGHT_DATA_DIR": str(settings.data_dir),
        "TUNEWRIGHT_LEASE_SECONDS": str(LEASE_SECONDS),
        "TUNEWRIGHT_HEARTBEAT_SECONDS": "0.3",
    }
    path = tmp_path / "dispatcher.log"
    with path.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, stdout=log, stderr=log)
    yield process, path
    process.kill()
    process.wait()


def test_a_poison_row_in_each_table_delays_no_other_row(
    poison: Poison, dispatcher: tuple[subprocess.Popen[bytes], Path]
) -> None:
    process, path = dispatcher
    until = time.monotonic() + LEASE_SECONDS + 15
    while (undone := poison.undone()) or {(line["table"], str(line["row"])) for line in read_log(path)} != poison.named:
        assert process.poll() is None, path.read_text()[-3000:]
        assert time.monotonic() < until, (undone, path.read_text()[-3000:])
        time.sleep(0.2)
    assert all(line["count"] and line["fault"] and line["frames"] for line in read_log(path))
    assert MARKER not in path.read_text()
    assert process.poll() is None


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the log lines about rows that were set aside."""
    whole, _, _ = path.read_text().rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    return [line for line in lines if line["event"] == "set a row aside"]
