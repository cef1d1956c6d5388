"""What the server, the dispatcher and the command line do when they are killed at a failpoint."""

import time
from contextlib import suppress
from pathlib import Path

import redis
from sqlalchemy import select, update

from app.db.session import transaction
from app.db.tables import ApiKey, DeletedObject
from app.domain.ids import new_id
from tests.chaos.stage import STEPS, Stage, both
from tunewright.errors import ConnectionFailed

DUTY = """
from app.db.session import connect, open_sessions
from app.dispatcher import Dispatcher
from app.settings import get_settings
Dispatcher(get_settings(), open_sessions(connect(get_settings().database_url))).{}()
"""
COLLECT, RETAIN = DUTY.format("collect"), DUTY.format("retain")


def post_job(stage: Stage, step: str) -> None:
    was = stage.jobs()
    stage.unanswered("before_post_job", stage.post)
    assert stage.jobs() == was, "not committed, not there"
    stage.unanswered("after_post_job", stage.post)
    [job_id] = stage.jobs() - was
    stage.end(job_id)


def pause_job(stage: Stage, step: str) -> None:
    """Pause and resume, each during which the server dies."""
    job = stage.post(steps=3000)
    stage.wait_for(job.id, "training_started")
    stage.unanswered("before_pause_job", lambda: stage.client.pause_job(job.id))
    assert stage.client.get_job(job.id).state == "running"
    stage.unanswered("after_pause_job", lambda: stage.client.pause_job(job.id))
    stage.stack.wait(lambda: stage.client.get_job(job.id).state == "paused", "it is paused")
    stage.unanswered("before_resume_job", lambda: stage.client.resume_job(job.id))
    assert stage.client.get_job(job.id).state == "paused"
    stage.unanswered("after_resume_job", lambda: stage.client.resume_job(job.id))
    stage.end(job.id)


def retry_job(stage: Stage, step: str) -> None:
    id = stage.finished.id
    was = stage.jobs()
    stage.unanswered("before_retry_job", lambda: stage.client.retry_job(id))
    assert stage.jobs() == was
    stage.unanswered("after_retry_job", lambda: stage.client.retry_job(id))
    [again] = stage.jobs() - was
    stage.end(again)


def cancel_job(stage: Stage, step: str) -> None:
    job = stage.post(steps=20_000)
    stage.wait_for(job.id, "training_started")
    stage.unanswered("before_cancel_job", lambda: stage.client.cancel_job(job.id))
    assert stage.client.get_job(job.id).state == "running"
    stage.unanswered("after_cancel_job", lambda: stage.client.cancel_job(job.id))
    stage.end(job.id, state="cancelled")


def upload(stage: Stage, step: str) -> None:
    """Bytes without a row are nobody's dataset; a row has its bytes."""
    was = stage.datasets()
    stage.unanswered(f"before_{step}", lambda: stage.client.upload_dataset(stage.rows))
    assert stage.datasets() == was
    stage.unanswered(f"after_{step}", lambda: stage.client.upload_dataset(stage.rows))
    there = stage.datasets() - was
    assert len(there) == (step == "upload_dataset")
    for id in there:
        assert stage.client.wait_for_dataset(id).state == "ready"


def clean_dataset(stage: Stage, step: str) -> None:
    source = stage.client.wait_for_dataset(stage.dataset_id)
    was = stage.datasets()
    stage.unanswered("before_clean_dataset", lambda: stage.client.clean_dataset(source.id))
    assert stage.datasets() == was
    stage.unanswered("after_clean_dataset", lambda: stage.client.clean_dataset(source.id))
    [made] = stage.datasets() - was
    assert stage.client.wait_for_dataset(made).state == "ready"


def delete_dataset(stage: Stage, step: str) -> None:
    id = stage.client.upload_dataset(stage.rows).id
    stage.unanswered("before_delete_dataset", lambda: stage.client.delete_dataset(id))
    assert id in stage.datasets()
    stage.unanswered("after_delete_dataset", lambda: stage.client.delete_dataset(id))
    assert id not in stage.datasets()


def delete_job(stage: Stage, step: str) -> None:
    job = stage.post()
    stage.end(job.id)
    stage.unanswered("before_delete_job", lambda: stage.client.delete_job(job.id))
    assert job.id in stage.jobs()
    stage.unanswered("after_delete_job", lambda: stage.client.delete_job(job.id))
    assert job.id not in stage.jobs()


def delete_adapter(stage: Stage, step: str) -> None:
    job = stage.post()
    stage.end(job.id)
    adapter_id = stage.client.get_job(job.id).adapter_id
    assert adapter_id
    stage.unanswered("before_delete_adapter", lambda: stage.client.delete_adapter(adapter_id))
    assert stage.client.get_adapter(adapter_id).id == adapter_id
    stage.unanswered("after_delete_adapter", lambda: stage.client.delete_adapter(adapter_id))
    assert adapter_id not in {adapter.id for adapter in stage.client.list_adapters()}


def note_key_use(stage: Stage, step: str) -> None:
    """The server dies beside a request, which may be answered or not; the key works on."""
    for failpoint in both(step):
        with transaction(stage.sessions) as session:
            session.execute(update(ApiKey).values(last_used_at=None))
        stage.stack.arm(failpoint)
        time.sleep(1)  # until the server asks for the key again
        with suppress(ConnectionFailed):
            stage.jobs()
        stage.wait_until_fired(failpoint)
    stage.end(stage.post().id)


def watch(stage: Stage, step: str) -> None:
    """The server dies under a reader of the live stream, who misses nothing and sees nothing twice."""
    job = stage.post()
    stage.arm(step)
    seen = [(type(each).__name__, each.raw) for each in stage.client.watch(job.id)]
    stage.end(job.id, step)
    numbers = [raw["number"] for kind, raw in seen if kind == "Event"]
    assert numbers == list(range(1, len(list(stage.client.events(job.id))) + 1))
    assert [raw["step"] for kind, raw in seen if kind == "MetricPoint" and "loss" in raw["values"]] == [
        *range(1, STEPS + 1)
    ]


def relay(stage: Stage, step: str) -> None:
    with stage.stack.paused("dispatcher"):
        job = stage.post()
        stage.arm(step)
    stage.end(job.id, step)


def remind(stage: Stage, step: str) -> None:
    """A wake-up is lost with Redis, and the dispatcher dies as it sends it again."""
    with stage.stack.paused("training"):
        job = stage.post()
        with redis.Redis.from_url(stage.stack.redis_url) as client:
            client.flushall()
        stage.arm(step)
        stage.wait_until_fired(*both(step))
    stage.end(job.id, step)


def recover_lost_work(stage: Stage, step: str) -> None:
    """A worker is lost, and then the dispatcher that has seen it: only after its own new lease it looks again."""
    with stage.stack.paused("dispatcher"):
        job = stage.post()
        stage.stack.arm("after_plan")
        stage.wait_until_fired("after_plan")
        time.sleep(float(stage.stack.environment()["TUNEWRIGHT_LEASE_SECONDS"]))
        assert stage.client.get_job(job.id).state == "running"
        stage.arm(step)
    assert stage.end(job.id, step)["attempt_lost"] == 1, "moved on once, however often it was tried"


def collect(stage: Stage, step: str) -> None:
    """Whoever dies over deleted bytes leaves rows that name them, and the next one finishes."""

    def dead() -> list[Path]:
        with transaction(stage.sessions) as session:
            keys = session.scalars(select(DeletedObject.storage_key)).all()
        return [stage.storage / key for key in keys]

    with stage.stack.paused("dispatcher"):
        id = stage.client.upload_dataset(stage.rows).id
        stage.client.delete_dataset(id)
        assert any(path.exists() for path in dead())
        assert stage.run("-c", COLLECT, failpoint=f"before_{step}") == -9
        assert dead()
        assert stage.run("-c", COLLECT, failpoint=f"after_{step}") == -9
        assert bool(dead()) == (step == "delete_object")
        assert stage.run("-c", COLLECT) == 0
        assert not dead()
        assert not list(stage.storage.glob(f"*/datasets/{id}"))


def forget(stage: Stage, step: str) -> None:
    for failpoint in both(step):
        assert stage.run("-c", COLLECT, failpoint=failpoint) == -9
    assert stage.run("-c", COLLECT) == 0
    stage.end(stage.post().id)


def retain(stage: Stage, step: str) -> None:
    """Whoever dies while it looks for what nothing names leaves that to the next one, and nothing that is named goes.

    Attempts and bytes count as old after a moment here."""
    job = stage.post()
    stage.end(job.id)
    project = next(stage.storage.glob(f"*/jobs/{job.id}")).parents[1]
    orphan, half = project / "datasets" / new_id("file"), project / "datasets" / f"{new_id('file')}#1"
    for path in (orphan, half):
        path.write_bytes(b"{}\n")
    time.sleep(1)
    old = {"TUNEWRIGHT_ORPHAN_TTL_SECONDS": "0.5"}
    for failpoint in both(step):
        assert stage.run("-c", RETAIN, failpoint=failpoint, **old) == -9
    assert stage.run("-c", RETAIN, **old) == 0
    assert not half.exists()
    with transaction(stage.sessions) as session:
        keys = session.scalars(select(DeletedObject.storage_key)).all()
    assert keys.count(orphan.relative_to(stage.storage).as_posix()) == 1
    assert stage.run("-c", COLLECT) == 0
    stage.end(job.id)


def limit_project(stage: Stage, step: str) -> None:
    """Of none: what the command line writes holds once it is committed, and not before."""
    limit = ("-m", "app.projects", "set-limit", "default")
    assert stage.run(*limit, "0", failpoint="before_limit_project") == -9
    stage.end(stage.post().id)
    assert stage.run(*limit, "0", failpoint="after_limit_project") == -9
    job = stage.post()
    time.sleep(2)
    assert stage.client.get_job(job.id).state == "queued"
    assert stage.run(*limit, "none") == 0
    stage.end(job.id)
    labels = ("-m", "app.projects", "set-labels", "default")
    assert stage.run(*labels, "pool=nowhere", failpoint="before_allow_labels") == -9
    stage.end(stage.post().id)
    assert stage.run(*labels, "pool=nowhere", failpoint="after_allow_labels") == -9
    job = stage.post()
    assert stage.run(*labels, "none", failpoint="after_allow_labels") == -9
    stage.end(job.id)


def add_model(stage: Stage, step: str) -> None:
    add = ("-m", "app.models", "add", "second", "--path", str(stage.stack.folder / "tiny"))
    assert stage.run(*add, failpoint="before_add_model") == -9
    assert {model.name for model in stage.client.models()} == {"tiny"}
    assert stage.run(*add, failpoint="after_add_model") == -9
    assert {model.name for model in stage.client.models()} == {"tiny", "second"}
    assert stage.client.wait_for_model("second").state == "ready", "a light worker goes on with it"
    assert stage.run(*add, "--projects", "default", failpoint="before_change_model") == -9
    assert stage.client.get_model("second").projects is None
    assert stage.run(*add, "--projects", "default", failpoint="after_change_model") == -9
    assert stage.client.get_model("second").projects == ["default"]
    remove = ("-m", "app.models", "remove", "second")
    assert stage.run(*remove, failpoint="before_remove_model") == -9
    assert {model.name for model in stage.client.models()} == {"tiny", "second"}
    assert stage.run(*remove, failpoint="after_remove_model") == -9
    assert {model.name for model in stage.client.models()} == {"tiny"}
