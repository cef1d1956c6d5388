"""Kills the server and the light worker at failpoints of previews and overlap checks."""

import json
import time
from collections.abc import Callable

from tests.chaos.harness import Harness, both
from tunewright import Dataset


def post_preview(harness: Harness, step: str) -> None:
    def ask() -> object:
        return harness.client.create_preview(harness.dataset_id, base_model="tiny")

    dataset = harness.client.wait_for_dataset(harness.dataset_id)
    check_post(harness, step, ask, lambda: {each.id for each in harness.client.list_previews(dataset.id)})
    newest = next(harness.client.list_previews(dataset.id))
    assert harness.client.wait_for_preview(dataset.id, newest.id).state == "ready"


def post_overlap(harness: Harness, step: str) -> None:
    def ask() -> object:
        return harness.client.create_overlap(harness.dataset_id, harness.dataset_id)

    dataset = harness.client.wait_for_dataset(harness.dataset_id)
    check_post(harness, step, ask, lambda: {each.id for each in harness.client.list_overlaps(dataset.id)})
    newest = next(harness.client.list_overlaps(dataset.id))
    done = harness.client.wait_for_overlap(dataset.id, newest.id)
    assert (done.state, len(done.pairs)) == ("ready", dataset.num_examples)


def check_post(harness: Harness, step: str, ask: Callable[[], object], there: Callable[[], set[str]]) -> None:
    was = there()
    harness.kill_during(f"before_{step}", ask)
    assert there() == was, "it was not committed"
    harness.kill_during(f"after_{step}", ask)
    assert len(there() - was) == 1


def dataset_check(harness: Harness, step: str) -> None:
    """Kill the light worker; after its lease another one makes the preview."""
    dataset = harness.client.wait_for_dataset(harness.dataset_id)
    with harness.stack.paused("light"):
        asked = harness.client.create_preview(dataset.id, base_model="tiny")
        harness.arm(step)
    harness.wait_until_fired(*both(step))
    done = harness.client.wait_for_preview(dataset.id, asked.id)
    assert (done.state, len(done.rows)) == ("ready", 5)
    left = harness.stack.folder / "work/inspections"
    harness.stack.wait(lambda: not list(left.glob("preview-*")), "the next worker has removed the dead worker's folder")


def many(harness: Harness) -> Dataset:
    """Upload a dataset whose preview takes longer than the interval between lease renewals."""
    path = harness.stack.folder / "some.jsonl"
    with path.open("w") as file:
        for number in range(60_000):
            file.write(json.dumps({"prompt": f"{number} is", "completion": "a number. " * 20}) + "\n")
    return harness.client.wait_for_dataset(harness.client.upload_dataset(path).id)


def renew_dataset_check(harness: Harness, step: str) -> None:
    """Kill the light worker in the middle of a long preview."""
    dataset = many(harness)
    with harness.stack.paused("light"):
        asked = harness.client.create_preview(dataset.id, base_model="tiny")
        harness.arm(step)
    harness.wait_until_fired(*both(step))
    assert harness.client.wait_for_preview(dataset.id, asked.id).state == "ready"


def give_back_dataset_check(harness: Harness, step: str) -> None:
    """Kill a draining light worker as it gives back a preview."""
    dataset = many(harness)
    asked = harness.client.create_preview(dataset.id, base_model="tiny")
    seen = 0.0

    def is_under_way() -> bool:
        """Return whether a process that started after the last kill is running. The killed one's log may remain."""
        return any(log.stat().st_mtime > seen for log in harness.stack.folder.glob("work/inspections/preview-*/log"))

    for failpoint in both(step):
        harness.stack.wait(is_under_way, "the preview is running")
        harness.stack.arm(failpoint)
        harness.stack.processes["light"].process.terminate()
        harness.wait_until_fired(failpoint)
        seen = time.time()
    assert harness.client.wait_for_preview(dataset.id, asked.id).state == "ready"
