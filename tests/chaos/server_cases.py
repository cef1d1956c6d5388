"""Kills the server, the dispatcher and the command line at failpoints."""

import time
from contextlib import suppress
from pathlib import Path

import redis
from sqlalchemy import select, update

from app.db.session import transaction
from app.db.tables import ApiKey, DeletedObject
from app.domain.ids import new_id
from tests.chaos.harness import STEPS, Harness, both
from tunewright.errors import ConnectionFailed

DUTY = """
from app.db.session import connect, open_sessions
from app.dispatcher import Dispatcher
from app.settings import get_settings
Dispatcher(get_settings(), open_sessions(connect(get_settings().database_url))).{}()
"""
COLLECT, RETAIN = DUTY.format("collect"), DUTY.format("retain")


def post_job(harness: Harness, step: str) -> None:
    was = harness.jobs()
    harness.kill_during("before_post_job", harness.post)
    assert harness.jobs() == was, "it was not committed"
    harness.kill_during("after_post_job", harness.post)
    [job_id] = harness.jobs() - was
    harness.end(job_id)


def pause_job(harness: Harness, step: str) -> None:
    """Kill the server during a pause and a resume."""
    job = harness.post(steps=3000)
    harness.wait_for(job.id, "training_started")
    harness.kill_during("before_pause_job", lambda: harness.client.pause_job(job.id))
    assert harness.client.get_job(job.id).state == "running"
    harness.kill_during("after_pause_job", lambda: harness.client.pause_job(job.id))
    harness.stack.wait(lambda: harness.client.get_job(job.id).state == "paused", "it is paused")
    harness.kill_during("before_resume_job", lambda: harness.client.resume_job(job.id))
    assert harness.client.get_job(job.id).state == "paused"
    harness.kill_during("after_resume_job", lambda: harness.client.resume_job(job.id))
    harness.end(job.id)


def retry_job(harness: Harness, step: str) -> None:
    id = harness.finished.id
    was = harness.jobs()
    harness.kill_during("before_retry_job", lambda: harness.client.retry_job(id))
    assert harness.jobs() == was
    harness.kill_during("after_retry_job", lambda: harness.client.retry_job(id))
    [again] = harness.jobs() - was
    harness.end(again)


def cancel_job(harness: Harness, step: str) -> None:
    job = harness.post(steps=20_000)
    harness.wait_for(job.id, "training_started")
    harness.kill_during("before_cancel_job", lambda: harness.client.cancel_job(job.id))
    assert harness.client.get_job(job.id).state == "running"
    harness.kill_during("after_cancel_job", lambda: harness.client.cancel_job(job.id))
    harness.end(job.id, state="cancelled")


def upload(harness: Harness, step: str) -> None:
    """Kill the server during an upload. Bytes without a row are not a dataset, and a row has its bytes."""
    was = harness.datasets()
    harness.kill_during(f"before_{step}", lambda: harness.client.upload_dataset(harness.rows))
    assert harness.datasets() == was
    harness.kill_during(f"after_{step}", lambda: harness.client.upload_dataset(harness.rows))
    there = harness.datasets() - was
    assert len(there) == (step == "upload_dataset")
    for id in there:
        assert harness.client.wait_for_dataset(id).state == "ready"


def clean_dataset(harness: Harness, step: str) -> None:
    source = harness.client.wait_for_dataset(harness.dataset_id)
    was = harness.datasets()
    harness.kill_during("before_clean_dataset", lambda: harness.client.clean_dataset(source.id))
    assert harness.datasets() == was
    harness.kill_during("after_clean_dataset", lambda: harness.client.clean_dataset(source.id))
    [made] = harness.datasets() - was
    assert harness.client.wait_for_dataset(made).state == "ready"


def delete_dataset(harness: Harness, step: str) -> None:
    id = harness.client.upload_dataset(harness.rows).id
    harness.kill_during("before_delete_dataset", lambda: harness.client.delete_dataset(id))
    assert id in harness.datasets()
    harness.kill_during("after_delete_dataset", lambda: harness.client.delete_dataset(id))
    assert id not in harness.datasets()


def delete_job(harness: Harness, step: str) -> None:
    job = harness.post()
    harness.end(job.id)
    harness.kill_during("before_delete_job", lambda: harness.client.delete_job(job.id))
    assert job.id in harness.jobs()
    harness.kill_during("after_delete_job", lambda: harness.client.delete_job(job.id))
    assert job.id not in harness.jobs()


def delete_adapter(harness: Harness, step: str) -> None:
    job = harness.post()
    harness.end(job.id)
    adapter_id = harness.client.get_job(job.id).adapter_id
    assert adapter_id
    harness.kill_during("before_delete_adapter", lambda: harness.client.delete_adapter(adapter_id))
    assert harness.client.get_adapter(adapter_id).id == adapter_id
    harness.kill_during("after_delete_adapter", lambda: harness.client.delete_adapter(adapter_id))
    assert adapter_id not in {adapter.id for adapter in harness.client.list_adapters()}


def note_key_use(harness: Harness, step: str) -> None:
    """Kill the server as it notes the use of a key. The request may fail; the key keeps working."""
    for failpoint in both(step):
        with transaction(harness.sessions) as session:
            session.execute(update(ApiKey).values(last_used_at=None))
        harness.stack.arm(failpoint)
        time.sleep(1)  # Until the server reads the key again.
        with suppress(ConnectionFailed):
            harness.jobs()
        harness.wait_until_fired(failpoint)
    harness.end(harness.post().id)


def watch(harness: Harness, step: str) -> None:
    """Kill the server under a reader of the live stream. The reader misses nothing and receives nothing twice."""
    job = harness.post()
    harness.arm(step)
    seen = [(type(each).__name__, each.raw) for each in harness.client.watch(job.id)]
    harness.end(job.id, step)
    numbers = [raw["number"] for kind, raw in seen if kind == "Event"]
    assert numbers == list(range(1, len(list(harness.client.events(job.id))) + 1))
    assert [raw["step"] for kind, raw in seen if kind == "MetricPoint" and "loss" in raw["values"]] == [
        *range(1, STEPS + 1)
    ]


def relay(harness: Harness, step: str) -> None:
    with harness.stack.paused("dispatcher"):
        job = harness.post()
        harness.arm(step)
    harness.end(job.id, step)


def remind(harness: Harness, step: str) -> None:
    """Lose a wake-up with Redis, and kill the dispatcher as it sends it again."""
    with harness.stack.paused("training"):
        job = harness.post()
        with redis.Redis.from_url(harness.stack.redis_url) as client:
            client.flushall()
        harness.arm(step)
        harness.wait_until_fired(*both(step))
    harness.end(job.id, step)


def recover_lost_work(harness: Harness, step: str) -> None:
    """Kill a worker, and then the dispatcher that noticed it. The next dispatcher waits a lease before recovery."""
    with harness.stack.paused("dispatcher"):
        job = harness.post()
        harness.stack.arm("after_plan")
        harness.wait_until_fired("after_plan")
        time.sleep(float(harness.stack.environment()["TUNEWRIGHT_LEASE_SECONDS"]))
        assert harness.client.get_job(job.id).state == "running"
        harness.arm(step)
    assert harness.end(job.id, step)["attempt_lost"] == 1, "the loss was recorded once"


def collect(harness: Harness, step: str) -> None:
    """Kill the collection of deleted objects. The rows that name them remain, and the next run finishes."""

    def dead() -> list[Path]:
        with transaction(harness.sessions) as session:
            keys = session.scalars(select(DeletedObject.storage_key)).all()
        return [harness.storage / key for key in keys]

    with harness.stack.paused("dispatcher"):
        id = harness.client.upload_dataset(harness.rows).id
        harness.client.delete_dataset(id)
        assert any(path.exists() for path in dead())
        assert harness.run("-c", COLLECT, failpoint=f"before_{step}") == -9
        assert dead()
        assert harness.run("-c", COLLECT, failpoint=f"after_{step}") == -9
        assert bool(dead()) == (step == "delete_object")
        assert harness.run("-c", COLLECT) == 0
        assert not dead()
        assert not list(harness.storage.glob(f"*/datasets/{id}"))


def forget(harness: Harness, step: str) -> None:
    for failpoint in both(step):
        assert harness.run("-c", COLLECT, failpoint=failpoint) == -9
    assert harness.run("-c", COLLECT) == 0
    harness.end(harness.post().id)


def retain(harness: Harness, step: str) -> None:
    """Kill the search for orphaned objects. The next run finishes it and removes nothing that is in use.

    Attempts and objects count as old after half a second here."""
    job = harness.post()
    harness.end(job.id)
    project = next(harness.storage.glob(f"*/jobs/{job.id}")).parents[1]
    orphan, half = project / "datasets" / new_id("file"), project / "datasets" / f"{new_id('file')}#1"
    for path in (orphan, half):
        path.write_bytes(b"{}\n")
    time.sleep(1)
    old = {"TUNEWRIGHT_ORPHAN_TTL_SECONDS": "0.5"}
    for failpoint in both(step):
        assert harness.run("-c", RETAIN, failpoint=failpoint, **old) == -9
    assert harness.run("-c", RETAIN, **old) == 0
    assert not half.exists()
    with transaction(harness.sessions) as session:
        keys = session.scalars(select(DeletedObject.storage_key)).all()
    assert keys.count(orphan.relative_to(harness.storage).as_posix()) == 1
    assert harness.run("-c", COLLECT) == 0
    harness.end(job.id)


def limit_project(harness: Harness, step: str) -> None:
    """Kill the command line as it limits a project. A change holds once it is committed, and not before."""
    limit = ("-m", "app.projects", "set-limit", "default")
    assert harness.run(*limit, "0", failpoint="before_limit_project") == -9
    harness.end(harness.post().id)
    assert harness.run(*limit, "0", failpoint="after_limit_project") == -9
    job = harness.post()
    time.sleep(2)
    assert harness.client.get_job(job.id).state == "queued"
    assert harness.run(*limit, "none") == 0
    harness.end(job.id)
    labels = ("-m", "app.projects", "set-labels", "default")
    assert harness.run(*labels, "pool=nowhere", failpoint="before_allow_labels") == -9
    harness.end(harness.post().id)
    assert harness.run(*labels, "pool=nowhere", failpoint="after_allow_labels") == -9
    job = harness.post()
    assert harness.run(*labels, "none", failpoint="after_allow_labels") == -9
    harness.end(job.id)


def add_model(harness: Harness, step: str) -> None:
    add = ("-m", "app.models", "add", "second", "--path", str(harness.stack.folder / "tiny"))
    assert harness.run(*add, failpoint="before_add_model") == -9
    assert {model.name for model in harness.client.models()} == {"tiny"}
    assert harness.run(*add, failpoint="after_add_model") == -9
    assert {model.name for model in harness.client.models()} == {"tiny", "second"}
    assert harness.client.wait_for_model("second").state == "ready", "a light worker fetches it"
    assert harness.run(*add, "--projects", "default", failpoint="before_change_model") == -9
    assert harness.client.get_model("second").projects is None
    assert harness.run(*add, "--projects", "default", failpoint="after_change_model") == -9
    assert harness.client.get_model("second").projects == ["default"]
    remove = ("-m", "app.models", "remove", "second")
    assert harness.run(*remove, failpoint="before_remove_model") == -9
    assert {model.name for model in harness.client.models()} == {"tiny", "second"}
    assert harness.run(*remove, failpoint="after_remove_model") == -9
    assert {model.name for model in harness.client.models()} == {"tiny"}
