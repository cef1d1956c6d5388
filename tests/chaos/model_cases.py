"""Kills the server, the light worker and the model cache at failpoints of base models."""

import shutil
import tempfile
import time
from pathlib import Path

from sqlalchemy import select

from app.db.session import transaction
from app.db.tables import RegisteredModel
from tests.chaos.harness import Harness, both
from tests.chaos.server_cases import RETAIN

NAME = "second"
BALLAST_BYTES = 2**33
"""Is the size of a sparse file that takes seconds to read and no disk space."""


def names(harness: Harness) -> set[str]:
    return {model.name for model in harness.client.models()}


def post(harness: Harness, path: Path | None = None) -> object:
    return harness.client.create_model(NAME, path=str(path or harness.stack.folder / "tiny"))


def end(harness: Harness, state: str = "ready") -> None:
    """Wait for the model's final state, then delete it."""
    assert harness.client.wait_for_model(NAME).state == state
    harness.client.delete_model(NAME)
    assert names(harness) == {"tiny"}


def post_model(harness: Harness, step: str) -> None:
    """Kill the server while it adds and removes a model."""
    harness.kill_during("before_post_model", lambda: post(harness))
    assert names(harness) == {"tiny"}, "it was not committed"
    harness.kill_during("after_post_model", lambda: post(harness))
    assert harness.client.wait_for_model(NAME).state == "ready"
    harness.kill_during("before_delete_base_model", lambda: harness.client.delete_model(NAME))
    assert names(harness) == {"tiny", NAME}
    harness.kill_during("after_delete_base_model", lambda: harness.client.delete_model(NAME))
    assert names(harness) == {"tiny"}


def fetch_model(harness: Harness, step: str) -> None:
    """Kill the light worker; after its lease another one continues."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        path = harness.stack.folder / "tiny"
        if step == "store_model_file":
            path = shutil.copytree(path, Path(elsewhere) / "tiny")
            (path / "tokenizer_config.json").write_text('{"model_max_length": 77}')
        if step == "link_model_file":
            path = shutil.copytree(path, harness.stack.folder / "other", dirs_exist_ok=True)
            (path / "tokenizer_config.json").write_text('{"model_max_length": 78}')
        with harness.stack.paused("light"):
            post(harness, path)
            harness.arm(step)
        harness.wait_until_fired(*both(step))
        end(harness)


def fail_model(harness: Harness, step: str) -> None:
    with harness.stack.paused("light"):
        post(harness, harness.stack.folder / "nothing")
        harness.arm(step)
    harness.wait_until_fired(*both(step))
    end(harness, "failed")


def give_back_model(harness: Harness, step: str) -> None:
    """Kill a draining light worker as it gives back a model."""
    path = shutil.copytree(harness.stack.folder / "tiny", harness.stack.folder / "long")
    with (path / "ballast.txt").open("wb") as ballast:
        ballast.truncate(BALLAST_BYTES)
    post(harness, path)

    def is_under_way() -> bool:
        """Return whether the present worker, and no earlier one, has claimed the model."""
        with transaction(harness.sessions) as session:
            named = select(RegisteredModel).where(RegisteredModel.name == NAME, RegisteredModel.state != "removed")
            model = session.scalars(named).one()
            return f"{model.worker_id}".endswith(f"-{harness.stack.processes['light'].process.pid}")

    for failpoint in both(step):
        harness.stack.wait(is_under_way, "the fetch is running")
        harness.stack.arm(failpoint)
        harness.stack.processes["light"].process.terminate()
        harness.wait_until_fired(failpoint)
        time.sleep(0.5)
    end(harness)


def keep_model_file(harness: Harness, step: str) -> None:
    """Kill a training worker as it adds the model to its cache."""
    with harness.stack.paused("training"):
        shutil.rmtree(harness.stack.cache / "models", ignore_errors=True)
        job = harness.post()
        harness.arm(step)
    harness.end(job.id, step)


def collect_models(harness: Harness, step: str) -> None:
    """Kill the collector of a removed model's files; the next run finishes. Files of other models remain."""
    with harness.stack.paused("dispatcher"):
        path = shutil.copytree(harness.stack.folder / "tiny", harness.stack.folder / "removed", dirs_exist_ok=True)
        (path / "tokenizer_config.json").write_text('{"model_max_length": 79}')
        there = set((harness.storage / "models").iterdir())
        post(harness, path)
        end(harness)
        (harness.storage / "models" / ("0" * 64)).write_bytes(b"lost")
        time.sleep(1)
        old = {"TUNEWRIGHT_ORPHAN_TTL_SECONDS": "0.5"}
        for failpoint in both(step):
            assert harness.run("-c", RETAIN, failpoint=failpoint, **old) == -9
        assert harness.run("-c", RETAIN, **old) == 0
        with transaction(harness.sessions) as session:
            assert session.scalars(select(RegisteredModel.name)).all() == ["tiny"]
        assert set((harness.storage / "models").iterdir()) <= there
    harness.end(harness.post().id)
