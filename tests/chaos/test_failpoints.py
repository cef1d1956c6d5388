"""kill -9 at every failpoint that lies on a job's way: the job ends as it must, once, and its history explains it.

Each step is killed before and after, in one job where that is possible. `TUNEWRIGHT_FAILPOINTS` says how many steps
(`all` in `make chaos`); which ones is random each time, and `TUNEWRIGHT_FAILPOINT_SEED` repeats a choice.
"""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import select

from app.db.projects import find_or_create_project
from app.db.session import connect, open_sessions, transaction
from app.db.tables import DeadObject
from app.keys.service import KeyService
from tests.chaos.kept_stack import KeptStack
from tests.chaos.stage import STEPS, Stage, both
from tests.conftest import own_database
from tests.fixtures.failpoints import failpoints
from tests.fixtures.tiny_models import build_tiny_model, write_rows

CHOICE = os.environ.get("TUNEWRIGHT_FAILPOINTS", "3")
SEED = int(os.environ.get("TUNEWRIGHT_FAILPOINT_SEED", str(time.time_ns() % 10**6)))
COLLECT = """
from app.db.session import connect, open_sessions
from app.dispatcher import Dispatcher
from app.settings import get_settings
Dispatcher(get_settings(), open_sessions(connect(get_settings().database_url))).collect()
"""


Case = Callable[[Stage, str], None]


def in_worker(stage: Stage, step: str) -> None:
    """The worker dies, twice: its job's lease lapses, and another attempt goes on."""
    with stage.stack.paused("training"):
        job = stage.post()
        stage.arm(step)
    kinds = stage.end(job.id, step)
    # Before the claim's commit nothing has begun, and after that of the publication all is done.
    assert kinds["attempt_lost"] - kinds["attempt_recovered"] == (1 if step in ("claim", "publish") else 2)


def in_child(stage: Stage, step: str) -> None:
    """The training process dies, twice: two failures of the job's own, which its retries allow."""
    shutil.rmtree(stage.stack.cache, ignore_errors=True)
    with stage.stack.paused("training"):
        job = stage.post()
        stage.arm(step)
    kinds = stage.end(job.id, step)
    assert (kinds["attempt_failed"], kinds["attempt_lost"] - kinds["attempt_recovered"]) == (2, 0)


def fail(stage: Stage, step: str) -> None:
    """The training process dies, and then the worker that tells it."""
    with stage.stack.paused("training"):
        job = stage.post()
        stage.arm(step, "complete_result")
    kinds = stage.end(job.id, step, "complete_result")
    assert kinds["attempt_failed"] == 1, "the other was not committed"
    assert kinds["attempt_lost"] - kinds["attempt_recovered"] == 1


def release(stage: Stage, step: str) -> None:
    """A drained worker dies while it gives its job back."""
    job = stage.post(steps=1500)
    stage.arm(step)
    for count in (1, 2):
        stage.wait_for(job.id, "training_started", count=count)
        stage.stack.kept["training"].process.terminate()
    kinds = stage.end(job.id, step)
    assert kinds["attempt_released"] == 1
    assert kinds["attempt_lost"] - kinds["attempt_recovered"] == 1


def cancel(stage: Stage, step: str) -> None:
    """The worker dies as it ends a cancelled job: the lapse of its lease ends it, or it is ended already."""
    for failpoint in both(step):
        job = stage.post(steps=20_000)
        stage.wait_for(job.id, "training_started")
        stage.stack.arm(failpoint)
        stage.client.cancel_job(job.id)
        stage.stack.wait(lambda failpoint=failpoint: stage.stack.has_fired(failpoint), failpoint)  # type: ignore[misc]
        kinds = stage.end(job.id, state="cancelled")
        assert kinds["attempt_lost"] == (1 if failpoint == "before_cancel" else 0)


def read_adapter(stage: Stage, step: str) -> None:
    first = stage.post()
    stage.end(first.id)
    with stage.stack.paused("training"):
        job = stage.post(init_from=stage.client.get_job(first.id).adapter_id)
        stage.arm(step)
    stage.end(job.id, step)


def give_up_checkpoint(stage: Stage, step: str) -> None:
    """Checkpoints are gone from storage, and the workers die that find it out."""
    with stage.stack.paused("training"):
        job = stage.post()
        stage.stack.arm("before_publish")
    stage.stack.wait(lambda: stage.stack.has_fired("before_publish"), "it published")
    with stage.stack.paused("dispatcher"):
        [stored] = (stage.stack.folder / "storage").glob(f"*/jobs/{job.id}/1/checkpoints")
        for lost in sorted(stored.iterdir(), key=lambda path: int(path.name))[1:]:
            shutil.rmtree(lost)
        stage.arm(step)
    kinds = stage.end(job.id, step)
    assert kinds["warned"] >= 2
    [resumed] = [event for event in stage.client.events(job.id) if event.type == "job_resumed"]
    assert resumed.data["step"] == STEPS // 3


def inspection(stage: Stage, step: str) -> None:
    """The light worker dies: after its lease another inspects, and the job that waits for it runs."""
    with stage.stack.paused("light"):
        dataset = stage.client.upload_dataset(stage.rows)
        stage.arm(step)
    job = stage.post(dataset_id=dataset.id)
    stage.end(job.id, step)
    assert stage.client.get_dataset(dataset.id).state == "ready"


def post_job(stage: Stage, step: str) -> None:
    was = stage.jobs()
    stage.unanswered("before_post_job", stage.post)
    assert stage.jobs() == was, "not committed, not there"
    stage.unanswered("after_post_job", stage.post)
    [job_id] = stage.jobs() - was
    stage.end(job_id)


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


def find_caller(stage: Stage, step: str) -> None:
    for failpoint in both(step):
        stage.unanswered(failpoint, stage.jobs)
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
    """A bell is lost with Redis, and the dispatcher dies as it rings again."""
    with stage.stack.paused("training"):
        job = stage.post()
        with redis.Redis.from_url(stage.stack.redis_url) as client:
            client.flushall()
        stage.arm(step)
        stage.stack.wait(lambda: stage.stack.has_fired(*both(step)), "reminded")
    stage.end(job.id, step)


def sweep(stage: Stage, step: str) -> None:
    """A worker is lost, and then the dispatcher that has seen it: only after its own new lease it looks again."""
    with stage.stack.paused("dispatcher"):
        job = stage.post()
        stage.stack.arm("after_plan")
        stage.stack.wait(lambda: stage.stack.has_fired("after_plan"), "a worker is lost")
        time.sleep(float(stage.stack.environment()["TUNEWRIGHT_LEASE_SECONDS"]))
        assert stage.client.get_job(job.id).state == "running"
        stage.arm(step)
    assert stage.end(job.id, step)["attempt_lost"] == 1, "moved on once, however often it was tried"


def collect(stage: Stage, step: str) -> None:
    """Whoever dies over dead bytes leaves rows that name them, and the next one finishes."""

    def dead() -> list[Path]:
        with transaction(stage.sessions) as session:
            keys = session.scalars(select(DeadObject.storage_key)).all()
        return [stage.stack.folder / "storage" / key for key in keys]

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
        assert not list((stage.stack.folder / "storage").glob(f"*/datasets/{id}"))


def add_model(stage: Stage, step: str) -> None:
    add = ("-m", "app.models", "add", "second", "--path", str(stage.stack.folder / "tiny"))
    assert stage.run(*add, failpoint="before_add_model") == -9
    assert {model.name for model in stage.client.models()} == {"tiny"}
    assert stage.run(*add, failpoint="after_add_model") == -9
    assert {model.name for model in stage.client.models()} == {"tiny", "second"}
    remove = ("-m", "app.models", "remove", "second")
    assert stage.run(*remove, failpoint="before_remove_model") == -9
    assert {model.name for model in stage.client.models()} == {"tiny", "second"}
    assert stage.run(*remove, failpoint="after_remove_model") == -9
    assert {model.name for model in stage.client.models()} == {"tiny"}


CASES: dict[str, Case] = {
    **dict.fromkeys(("claim", "enter_phase", "read_inputs", "start_training", "plan", "start", "tell"), in_worker),
    **dict.fromkeys(("record", "heartbeat", "store_file", "save_checkpoint"), in_worker),
    **dict.fromkeys(("keep_log", "read_state", "publish"), in_worker),
    **dict.fromkeys(("start_tokenizing", "keep_nf4", "keep_parity", "name_checkpoint", "complete_result"), in_child),
    **{case.__name__: case for case in (fail, release, cancel, read_adapter, give_up_checkpoint)},
    **dict.fromkeys(("claim_inspection", "conclude_inspection"), inspection),
    **dict.fromkeys(("upload_dataset", "store_object"), upload),
    **{case.__name__: case for case in (post_job, cancel_job, delete_job, delete_dataset, delete_adapter, find_caller)},
    **dict.fromkeys(("stream_job", "follow"), watch),
    **{case.__name__: case for case in (relay, remind, sweep)},
    **dict.fromkeys(("collect", "delete_object"), collect),
    "add_model": add_model,
}
CHOSEN = list(CASES) if CHOICE == "all" else sorted(random.Random(SEED).sample(list(CASES), int(CHOICE)))


@pytest.fixture(scope="module")
def stage(
    migrated_url: str, redis_server: str, server_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    print(f"TUNEWRIGHT_FAILPOINT_SEED={SEED}")
    folder = tmp_path_factory.mktemp("failpoints")
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    with own_database(migrated_url) as url:
        engine = connect(url)
        sessions = open_sessions(engine)
        with transaction(sessions) as session:
            key = KeyService(session).create(find_or_create_project(session, "default"), "test", ("read", "write"))
        with KeptStack(folder / "data", url, redis_server, key) as stack, stack.client() as client:
            stage = Stage(stack, client, sessions, write_rows(folder / "rows.jsonl", num_rows=8))
            add = ("-m", "app.models", "add", "tiny", "--path", str(build_tiny_model(stack.folder / "tiny")))
            assert stage.run(*add) == 0
            yield stage
        engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("step", CHOSEN)
def test_a_kill_before_and_after(stage: Stage, step: str) -> None:
    CASES[step](stage, step)


ELSEWHERE = {
    "a reading, which leaves nothing half done": {"find_upload", "readyz", "show_catalogue"},
    "killed at the start, by test_failpoints_at_start": {
        *("create_cluster", "keep_cluster", "keep_programs", "create_role", "create_database", "ask_redis_version"),
        *("start_process", "rotate_log", "write_private", "migrate", "create_key"),
    },
    "needs a machine without the server's user": {"create_user"},
    "needs a GPU": {"ask_gpu"},
    "needs a lack of memory": {"replan"},
    "killed along with add_model": {"remove_model"},
}


def test_no_failpoint_is_forgotten() -> None:
    """A new one must be killed at, or it is said here why not. What only reads is left out: GET routes."""
    steps = {name.removeprefix("before_").removeprefix("after_") for name in failpoints()}
    readings = {step for step in steps if step.startswith(("get_", "list_"))}
    assert steps - readings == CASES.keys() | set().union(*ELSEWHERE.values())
