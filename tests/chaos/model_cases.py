"""What the server, the light worker and the cache of models leave when they are killed at a failpoint."""

import shutil
import tempfile
import time
from pathlib import Path

from sqlalchemy import select

from app.db.session import transaction
from app.db.tables import RegisteredModel
from tests.chaos.server_cases import RETAIN
from tests.chaos.stage import Stage, both

NAME = "second"
BALLAST_BYTES = 2**33
"""Of a file that takes seconds to read, and no room."""


def names(stage: Stage) -> set[str]:
    return {model.name for model in stage.client.models()}


def post(stage: Stage, path: Path | None = None) -> object:
    return stage.client.create_model(NAME, path=str(path or stage.stack.folder / "tiny"))


def end(stage: Stage, state: str = "ready") -> None:
    """Its end, and then nobody knows it any more."""
    assert stage.client.wait_for_model(NAME).state == state
    stage.client.delete_model(NAME)
    assert names(stage) == {"tiny"}


def post_model(stage: Stage, step: str) -> None:
    """And its removal."""
    stage.unanswered("before_post_model", lambda: post(stage))
    assert names(stage) == {"tiny"}, "not committed, not there"
    stage.unanswered("after_post_model", lambda: post(stage))
    assert stage.client.wait_for_model(NAME).state == "ready"
    stage.unanswered("before_delete_base_model", lambda: stage.client.delete_model(NAME))
    assert names(stage) == {"tiny", NAME}
    stage.unanswered("after_delete_base_model", lambda: stage.client.delete_model(NAME))
    assert names(stage) == {"tiny"}


def fetch_model(stage: Stage, step: str) -> None:
    """The light worker dies: after its lease another goes on."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        path = stage.stack.folder / "tiny"
        if step == "store_model_file":
            path = shutil.copytree(path, Path(elsewhere) / "tiny")
            (path / "tokenizer_config.json").write_text('{"model_max_length": 77}')
        if step == "link_model_file":
            path = shutil.copytree(path, stage.stack.folder / "other", dirs_exist_ok=True)
            (path / "tokenizer_config.json").write_text('{"model_max_length": 78}')
        with stage.stack.paused("light"):
            post(stage, path)
            stage.arm(step)
        stage.wait_until_fired(*both(step))
        end(stage)


def fail_model(stage: Stage, step: str) -> None:
    with stage.stack.paused("light"):
        post(stage, stage.stack.folder / "nothing")
        stage.arm(step)
    stage.wait_until_fired(*both(step))
    end(stage, "failed")


def give_back_model(stage: Stage, step: str) -> None:
    """A light worker that is asked to stop dies as it leaves a model to another."""
    path = shutil.copytree(stage.stack.folder / "tiny", stage.stack.folder / "long")
    with (path / "ballast.txt").open("wb") as ballast:
        ballast.truncate(BALLAST_BYTES)
    post(stage, path)

    def is_under_way() -> bool:
        """In the hands of the worker that runs now, and not of the one before it."""
        with transaction(stage.sessions) as session:
            named = select(RegisteredModel).where(RegisteredModel.name == NAME, RegisteredModel.state != "removed")
            model = session.scalars(named).one()
            return f"{model.worker_id}".endswith(f"-{stage.stack.kept['light'].process.pid}")

    for failpoint in both(step):
        stage.stack.wait(is_under_way, "it is under way")
        stage.stack.arm(failpoint)
        stage.stack.kept["light"].process.terminate()
        stage.wait_until_fired(failpoint)
        time.sleep(0.5)
    end(stage)


def keep_model_file(stage: Stage, step: str) -> None:
    """A training worker dies as it takes the model into its cache."""
    with stage.stack.paused("training"):
        shutil.rmtree(stage.stack.cache / "models", ignore_errors=True)
        job = stage.post()
        stage.arm(step)
    stage.end(job.id, step)


def collect_models(stage: Stage, step: str) -> None:
    """Whoever dies over the files of a removed model leaves them to the next one; those of another stay."""
    with stage.stack.paused("dispatcher"):
        path = shutil.copytree(stage.stack.folder / "tiny", stage.stack.folder / "removed", dirs_exist_ok=True)
        (path / "tokenizer_config.json").write_text('{"model_max_length": 79}')
        there = set((stage.storage / "models").iterdir())
        post(stage, path)
        end(stage)
        (stage.storage / "models" / ("0" * 64)).write_bytes(b"lost")
        time.sleep(1)
        old = {"TUNEWRIGHT_ORPHAN_TTL_SECONDS": "0.5"}
        for failpoint in both(step):
            assert stage.run("-c", RETAIN, failpoint=failpoint, **old) == -9
        assert stage.run("-c", RETAIN, **old) == 0
        with transaction(stage.sessions) as session:
            assert session.scalars(select(RegisteredModel.name)).all() == ["tiny"]
        assert set((stage.storage / "models").iterdir()) <= there
    stage.end(stage.post().id)
