"""What the server and the light worker do with previews and overlaps when they are killed at a failpoint."""

import json
import time
from collections.abc import Callable

from tests.chaos.stage import Stage, both
from tunewright import Dataset


def post_preview(stage: Stage, step: str) -> None:
    def ask() -> object:
        return stage.client.create_preview(stage.dataset_id, base_model="tiny")

    dataset = stage.client.wait_for_dataset(stage.dataset_id)
    check_post(stage, step, ask, lambda: {each.id for each in stage.client.list_previews(dataset.id)})
    newest = next(stage.client.list_previews(dataset.id))
    assert stage.client.wait_for_preview(dataset.id, newest.id).state == "ready"


def post_overlap(stage: Stage, step: str) -> None:
    def ask() -> object:
        return stage.client.create_overlap(stage.dataset_id, stage.dataset_id)

    dataset = stage.client.wait_for_dataset(stage.dataset_id)
    check_post(stage, step, ask, lambda: {each.id for each in stage.client.list_overlaps(dataset.id)})
    newest = next(stage.client.list_overlaps(dataset.id))
    done = stage.client.wait_for_overlap(dataset.id, newest.id)
    assert (done.state, len(done.pairs)) == ("ready", dataset.num_examples)


def check_post(stage: Stage, step: str, ask: Callable[[], object], there: Callable[[], set[str]]) -> None:
    was = there()
    stage.unanswered(f"before_{step}", ask)
    assert there() == was, "not committed, not there"
    stage.unanswered(f"after_{step}", ask)
    assert len(there() - was) == 1


def dataset_check(stage: Stage, step: str) -> None:
    """The light worker dies: after its lease another makes the preview."""
    dataset = stage.client.wait_for_dataset(stage.dataset_id)
    with stage.stack.paused("light"):
        asked = stage.client.create_preview(dataset.id, base_model="tiny")
        stage.arm(step)
    stage.wait_until_fired(*both(step))
    done = stage.client.wait_for_preview(dataset.id, asked.id)
    assert (done.state, len(done.rows)) == ("ready", 5)
    left = stage.stack.folder / "work/inspections"
    stage.stack.wait(lambda: not list(left.glob("preview-*")), "the next worker has cleared what the dead one left")


def many(stage: Stage) -> Dataset:
    """A dataset whose preview takes longer than a lease is renewed in."""
    path = stage.stack.folder / "some.jsonl"
    with path.open("w") as file:
        for number in range(60_000):
            file.write(json.dumps({"prompt": f"{number} is", "completion": "a number. " * 20}) + "\n")
    return stage.client.wait_for_dataset(stage.client.upload_dataset(path).id)


def renew_dataset_check(stage: Stage, step: str) -> None:
    """The light worker dies in the middle of a long preview."""
    dataset = many(stage)
    with stage.stack.paused("light"):
        asked = stage.client.create_preview(dataset.id, base_model="tiny")
        stage.arm(step)
    stage.wait_until_fired(*both(step))
    assert stage.client.wait_for_preview(dataset.id, asked.id).state == "ready"


def give_back_dataset_check(stage: Stage, step: str) -> None:
    """A light worker that is asked to stop dies as it leaves a preview to another."""
    dataset = many(stage)
    asked = stage.client.create_preview(dataset.id, base_model="tiny")
    seen = 0.0

    def is_under_way() -> bool:
        """In a process that began after the last one died, whose log may still be there."""
        return any(log.stat().st_mtime > seen for log in stage.stack.folder.glob("work/inspections/preview-*/log"))

    for failpoint in both(step):
        stage.stack.wait(is_under_way, "it is under way")
        stage.stack.arm(failpoint)
        stage.stack.kept["light"].process.terminate()
        stage.wait_until_fired(failpoint)
        seen = time.time()
    assert stage.client.wait_for_preview(dataset.id, asked.id).state == "ready"
