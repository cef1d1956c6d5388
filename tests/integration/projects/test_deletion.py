"""A deleted project leaves nothing and other projects lose nothing, even if the dispatcher dies halfway."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from fastapi.testclient import TestClient
from sqlalchemy import BigInteger, Boolean, DateTime, Double, Table, insert, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from app import failpoints, logs
from app.db.base import Base
from app.db.session import Sessions, transaction
from app.db.tables import Job, Project, ProjectDeletion, Worker
from app.domain.hardware import WorkerHardware
from app.domain.ids import new_id
from app.domain.metric import MetricPoint
from app.domain.project import DeletionState
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.live_metrics import metrics_key, publish
from app.projects.__main__ import delete, parse, show
from app.projects.errors import LastProject, ProjectBeingDeleted, ProjectNotFound
from app.projects.lookup import find_or_create_project
from app.projects.repository import tables_of_projects
from app.projects.service import ProjectService
from app.retention.project_eraser import ProjectEraser
from app.settings import Settings
from app.storage import Storage
from app.web import key_cache
from app.workers.service import WorkerService
from worker.host.deleted_projects import clear_deleted_projects

WORKER = WorkerHardware("here-1", "cpu", 16.0)
STEPS = (
    *("find_deletions", "find_project_work", "cancel_project_job", "find_project_leases", "take_inventory"),
    *("delete_object", "tidy_storage", "find_project_jobs", "erase_rows", "delete_project"),
    *("finish_deletion", "find_deleted_projects", "report_work_folders"),
)

NOT_FILLED = ("projects", "project_deletions", "installation")

COLUMN_VALUES: dict[str, Callable[[], dict[str, Any]]] = {
    "jobs": lambda: {"id": new_id("ftjob"), "state": "queued", "device": "auto", "attempt": 1, "last_event_number": 1},
    "datasets": lambda: {"state": "ready"},
}
"""Values of columns that the code reads."""


def fill(sessions: Sessions, project_id: str) -> str:
    """Add a row of the project to every table that has rows of projects, new tables included; return the job's id."""
    rows: dict[str, dict[str, Any]] = {"projects": {"id": project_id}}
    with transaction(sessions) as session:
        for table in [table for table in Base.metadata.sorted_tables if table.name not in NOT_FILLED]:
            rows[table.name] = row_of(table, rows) | COLUMN_VALUES.get(table.name, dict)()
            session.execute(insert(table).values(rows[table.name]))
    return str(rows["jobs"]["id"])


def row_of(table: Table, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a value for each column that needs one; foreign keys refer to rows of the same project."""
    row: dict[str, Any] = {}
    for column in table.columns:
        targets = [key.column for key in column.foreign_keys if key.column.table.name in rows]
        if targets:
            row[column.name] = rows[targets[0].table.name][targets[0].name]
        elif not column.nullable and column.server_default is None and column.identity is None:
            row[column.name] = value_of(column.type)
    return row


def value_of(kind: Any) -> Any:
    for of, value in ((BigInteger, 1), (Double, 0.5), (Boolean, False), (JSONB, {}), (ARRAY, [])):
        if isinstance(kind, of):
            return value
    return datetime.now(UTC) if isinstance(kind, DateTime) else new_id("file")


class World:
    """Two projects with the same data, a worker, and the dispatcher's turns."""

    def __init__(self, settings: Settings, sessions: Sessions, redis_url: str) -> None:
        self.settings, self.sessions, self.storage = settings, sessions, Storage(settings.storage)
        self.redis = redis.Redis.from_url(redis_url)
        self.eraser = ProjectEraser(sessions, self.storage, self.redis)
        with transaction(sessions) as session:
            self.ids = [find_or_create_project(session, name) for name in ("doomed", "spared")]
            options: dict[str, Any] = {"draining": False, "disk_full": False, "lease": 600}
            WorkerService(session).register(WORKER, {}, ["training"], **options)
        self.jobs = [self._add_data(id) for id in self.ids]
        self.doomed = self.ids[0]

    def _add_data(self, id: str) -> str:
        job_id = fill(self.sessions, id)
        source = self.settings.data_dir / "bytes"
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(b"12345")
        for key in (f"{id}/datasets/a", f"{id}/jobs/{job_id}/1/checkpoints/2/w.bin", f"{id}/uploads/u/p"):
            self.storage.put_file(key, source, "name")
        (self.storage.root or Path()).joinpath(f"{id}/datasets/half#1").write_bytes(b"half")
        (self.settings.work_dir / id / job_id / "1").mkdir(parents=True)
        publish(
            self.redis,
            job_id,
            [MetricPoint(attempt=1, number=1, step=1, values={"loss": 1.0}, measured_at=datetime.now(UTC))],
        )
        return job_id

    def request(self) -> None:
        with transaction(self.sessions) as session:
            ProjectService(session).request_deletion("doomed")

    def run_turn(self) -> ProjectDeletion:
        self.eraser.erase()
        clear_deleted_projects(self.sessions, self.settings.work_dir, WORKER.worker_id)
        return self.deletion()

    def run_turns(self) -> ProjectDeletion:
        """Run as many turns as an undisturbed deletion takes."""
        for _ in range(3):
            self.run_turn()
        return self.deletion()

    def deletion(self) -> ProjectDeletion:
        with transaction(self.sessions) as session:
            return session.get_one(ProjectDeletion, self.doomed)

    def count_left(self, id: str) -> dict[str, int]:
        """Count what is left of a project, by table and by place."""
        with transaction(self.sessions) as session:
            named = [table for table in Base.metadata.sorted_tables if "project_id" in table.columns]
            rows = {t.name: len(session.execute(select(t).where(t.c.project_id == id)).all()) for t in named}
            rows["projects"] = len(session.execute(select(Project).where(Project.id == id)).all())
        files = list((self.storage.root or Path()).joinpath(id).rglob("*"))
        folders = [*(self.settings.work_dir / id).rglob("*"), self.settings.work_dir / id]
        streams = self.redis.exists(metrics_key(self.jobs[self.ids.index(id)]))
        return rows | {
            "stored": len(files),
            "work": len([path for path in folders if path.exists()]),
            "live": int(streams),  # type: ignore[arg-type]
        }


@pytest.fixture
def world(settings: Settings, sessions: Sessions, redis_url: str) -> World:
    return World(settings, sessions, redis_url)


def test_nothing_is_left_and_another_project_is_untouched(world: World) -> None:
    before = world.count_left(world.ids[1])
    assert all(world.count_left(world.doomed).values()), "each table and each place has data of the project"
    world.request()
    world.run_turn()
    deletion = world.run_turn()
    assert deletion.state == DeletionState.finished
    assert not any(world.count_left(world.doomed).values())
    assert world.count_left(world.ids[1]) == before
    assert deletion.num_rows.keys() == {table.name for table in tables_of_projects()}
    assert (deletion.num_objects, deletion.num_bytes, deletion.num_live_streams) == (3, 15, 1)
    assert deletion.work_folders == {WORKER.worker_id: 1}


def test_a_deletion_killed_at_any_step_is_completed(world: World) -> None:
    before = world.count_left(world.ids[1])
    world.request()
    all_failpoints = [f"{when}_{step}" for step in STEPS for when in ("before", "after")]
    for failpoint in all_failpoints:
        failpoints.arm({"FAILPOINT": f"{failpoint}:raise"})
        try:
            with pytest.raises(OSError, match=failpoint):
                world.run_turns()
        finally:
            failpoints.arm({})
    deletion = world.run_turns()
    assert deletion.state == DeletionState.finished
    assert not any(world.count_left(world.doomed).values())
    assert world.count_left(world.ids[1]) == before
    assert deletion.num_rows["jobs"] == 1
    assert (deletion.num_objects, deletion.num_bytes) == (3, 15)


def test_running_jobs_are_cancelled_first(world: World) -> None:
    with transaction(world.sessions) as session:
        session.execute(update(Job).where(Job.project_id == world.ids[1]).values(state="paused"))
        job = QueueService(session).claim(WORKER, 600)
        assert job is not None
    claim = Claim(job.project_id, job.id, job.attempt, job.claim_token or "")
    assert claim.project_id == world.doomed
    world.request()
    assert world.run_turn().state == DeletionState.stopping
    with transaction(world.sessions) as session:
        assert AttemptService(session, claim).state() == "cancelling"
        AttemptService(session, claim).release()
    world.run_turn()
    assert world.run_turn().state == DeletionState.finished


def test_a_deletion_waits_for_every_online_worker(world: World) -> None:
    with transaction(world.sessions) as session:
        options: dict[str, Any] = {"draining": False, "disk_full": False, "lease": 600}
        WorkerService(session).register(WorkerHardware("there-1", "cpu", 1), {}, ["light"], **options)
    world.request()
    world.run_turn()
    assert world.run_turn().state == DeletionState.clearing_workers
    with transaction(world.sessions) as session:
        session.execute(
            update(Worker).where(Worker.id == "there-1").values(online_until=datetime(2000, 1, 1, tzinfo=UTC))
        )
    assert world.run_turn().state == DeletionState.finished
    # The worker comes back and still has a folder of the project.
    (world.settings.work_dir / world.doomed / new_id("ftjob") / "1").mkdir(parents=True)
    clear_deleted_projects(world.sessions, world.settings.work_dir, "there-1")
    assert world.deletion().work_folders == {WORKER.worker_id: 1, "there-1": 1}
    assert not any(world.count_left(world.doomed).values())


def test_keys_stop_at_once_and_the_name_is_free_after_the_deletion(
    world: World, server: TestClient, make_key: Callable[..., str]
) -> None:
    headers = {"Authorization": f"Bearer {make_key('doomed')}"}
    assert server.get("/webhooks", headers=headers).status_code == 200
    world.request()
    until = time.monotonic() + 1
    while server.get("/webhooks", headers=headers).status_code != 401:
        assert time.monotonic() < until, "a revoked key stops within a second"
    with pytest.raises(ProjectBeingDeleted), transaction(world.sessions) as session:
        ProjectService(session).create("doomed")
    world.run_turns()
    with transaction(world.sessions) as session:
        assert ProjectService(session).create("doomed").id != world.doomed


def test_a_request_during_the_deletion_is_unauthorized(
    world: World, server: TestClient, make_key: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key was valid when it began, but its project is being deleted when it writes."""
    monkeypatch.setattr(key_cache, "KEEP_SECONDS", 60)
    headers = {"Authorization": f"Bearer {make_key('doomed')}"}
    assert server.get("/webhooks", headers=headers).status_code == 200
    world.request()
    world.run_turn()
    answer = server.post("/datasets", headers=headers, files={"file": ("a.jsonl", b'{"text": "a"}\n')})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert not any(world.storage.list(world.doomed))


def test_the_last_project_cannot_be_deleted(sessions: Sessions, project_id: str) -> None:
    with pytest.raises(LastProject), transaction(sessions) as session:
        ProjectService(session).request_deletion("default")


def test_the_command_prints_what_was_erased(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()  # the dispatcher's log lines are not the command's output
    with pytest.raises(SystemExit, match="--yes"):
        delete(world.sessions, parse(["delete", "doomed"]))
    delete(world.sessions, parse(["delete", "doomed", "--yes", "--no-wait"]))
    assert world.doomed in capsys.readouterr().out
    show(world.sessions, parse(["list"]))
    assert "doomed: no limit on running jobs (being deleted)" in capsys.readouterr().out
    dispatcher = threading.Thread(target=world.run_turns)
    dispatcher.start()
    delete(world.sessions, parse(["delete", "doomed", "--yes"]))
    dispatcher.join()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Erased project doomed ({world.doomed})."
    listed = dict(line.split() for line in lines if line.startswith("  "))
    assert listed == {table.name: "1" for table in tables_of_projects()} | {"job_events": "2", WORKER.worker_id: "1"}
    assert lines[-1] == "Remaining: 0 rows, 0 stored objects, 0 work folders of online workers."
    with pytest.raises(ProjectNotFound, match="No project has the name 'doomed'"):
        delete(world.sessions, parse(["delete", "doomed", "--yes"]))
