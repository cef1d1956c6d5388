"""Kills a training worker, its training process and the light worker at failpoints."""

import shutil
from pathlib import Path

from tests.chaos.harness import Harness, both


def in_worker(harness: Harness, step: str) -> None:
    """Kill the worker twice. The job's lease expires, and another attempt continues."""
    with harness.stack.paused("training"):
        job = harness.post()
        harness.arm(step)
    kinds = harness.end(job.id, step)
    # After the publication is committed, the job has ended.
    assert kinds["attempt_lost"] - kinds["attempt_recovered"] == (1 if step == "publish" else 2)


def claim(harness: Harness, step: str) -> None:
    """Kill the worker before the commit of its claim, then after another one. They are armed one at a time: a worker
    that is stopped in between may have looked for work already."""
    with harness.stack.without_restarts("training"):
        with harness.stack.paused("training"):
            job = harness.post()
            harness.stack.arm("before_claim")
        harness.wait_until_fired("before_claim")
        harness.stack.arm("after_claim")
    kinds = harness.end(job.id, step)
    assert kinds["attempt_lost"] - kinds["attempt_recovered"] == 1


def track(harness: Harness, step: str) -> None:
    """Kill the worker while it writes TensorBoard's file. A later attempt writes it."""
    with harness.stack.paused("training"):
        job = harness.post(integrations=[{"type": "tensorboard"}])
        harness.arm(step)
    kinds = harness.end(job.id, step)
    assert kinds["attempt_lost"] - kinds["attempt_recovered"] == 2
    assert "tensorboard.tfevents" in {artifact.path for artifact in harness.client.artifacts(job.id)}


def in_child(harness: Harness, step: str) -> None:
    """Kill the training process twice. The job's retries allow both failures."""
    shutil.rmtree(harness.stack.cache, ignore_errors=True)
    with harness.stack.paused("training"):
        job = harness.post()
        harness.arm(step)
    kinds = harness.end(job.id, step)
    assert (kinds["attempt_failed"], kinds["attempt_lost"] - kinds["attempt_recovered"]) == (2, 0)


def fail(harness: Harness, step: str) -> None:
    """Kill the training process, and then the worker that reports it."""
    with harness.stack.paused("training"):
        job = harness.post()
        harness.arm(step, "complete_result")
    kinds = harness.end(job.id, step, "complete_result")
    assert kinds["attempt_failed"] == 1, "the other was not committed"
    assert kinds["attempt_lost"] - kinds["attempt_recovered"] == 1


def release(harness: Harness, step: str) -> None:
    """Kill a draining worker while it releases its job."""
    job = harness.post(steps=1500)
    harness.arm(step)
    for count in (1, 2):
        harness.wait_for(job.id, "training_started", count=count)
        harness.stack.processes["training"].process.terminate()
    kinds = harness.end(job.id, step)
    assert kinds["attempt_released"] == 1
    assert kinds["attempt_lost"] - kinds["attempt_recovered"] == 1
    release_cancelled(harness)


def release_cancelled(harness: Harness) -> None:
    """Kill the worker as it ends a cancelled job. The job ends when the lease expires, unless it has ended already."""
    for failpoint in both("release"):
        job = harness.post(steps=20_000)
        harness.wait_for(job.id, "training_started")
        harness.stack.arm(failpoint)
        harness.client.cancel_job(job.id)
        harness.wait_until_fired(failpoint)
        harness.end(job.id, state="cancelled")


def request_orphan_collection(harness: Harness, step: str) -> None:
    """Kill a worker as it stops after losing its attempt."""
    for failpoint in both(step):
        job = harness.post(steps=20_000)
        harness.wait_for(job.id, "training_started")
        with harness.stack.paused("training"):
            harness.client.cancel_job(job.id)
            harness.end(job.id, state="cancelled")
            harness.stack.arm(failpoint)
        harness.wait_until_fired(failpoint)
        harness.end(job.id, state="cancelled")


def record_late(harness: Harness, step: str) -> None:
    """Kill a worker with unstored points, and then the workers that find them on disk."""
    with harness.stack.paused("training"):
        job = harness.post()
        harness.stack.arm("before_record")
        harness.arm(step)
    kinds = harness.end(job.id, step, "record")
    assert kinds["attempt_lost"] - kinds["attempt_recovered"] == 1


def sign_of_life(harness: Harness, step: str) -> None:
    """Kill any worker as it sends a heartbeat."""
    harness.arm(step)
    harness.end(harness.post().id, step)


def read_adapter(harness: Harness, step: str) -> None:
    start = harness.finished.adapter_id
    with harness.stack.paused("training"):
        job = harness.post(init_from=start)
        harness.arm(step)
    harness.end(job.id, step)


def give_up_checkpoint(harness: Harness, step: str) -> None:
    """Remove the newer of two checkpoints from storage, and kill the workers that find it missing. There are enough
    steps that both are stored, and the second does not replace the first."""
    steps = 600
    with harness.stack.paused("training"):
        job = harness.post(steps=steps)
        harness.stack.arm("before_publish")
    harness.wait_until_fired("before_publish")
    with harness.stack.paused("dispatcher"):
        [stored] = harness.storage.glob(f"*/jobs/{job.id}/1/checkpoints")
        for lost in sorted(stored.iterdir(), key=lambda path: int(path.name))[1:]:
            shutil.rmtree(lost)
        harness.arm(step)
    kinds = harness.end(job.id, step)
    assert kinds["warning_issued"] >= 1
    [resumed] = [event for event in harness.client.events(job.id) if event.type == "job_resumed"]
    assert resumed.data["step"] == steps // 3


def clean(harness: Harness, step: str) -> None:
    """Kill the light worker while it makes a cleaned dataset."""
    source = harness.client.wait_for_dataset(harness.dataset_id)
    with harness.stack.paused("light"):
        dataset = harness.client.clean_dataset(source.id)
        harness.arm(step)
    harness.wait_until_fired(*both(step))
    made = harness.client.wait_for_dataset(dataset.id)
    assert (made.state, made.num_examples, made.cleaned_from) == ("ready", source.num_examples, source.id)


def renew_inspection(harness: Harness, step: str) -> None:
    """Kill the light worker in the middle of a long inspection."""
    with harness.stack.paused("light"):
        dataset = harness.client.upload_dataset(harness.many_rows)
        harness.arm(step)
    harness.wait_until_fired(*both(step))
    assert harness.client.wait_for_dataset(dataset.id).state == "ready"
    assert not list((harness.stack.folder / "work/inspections").glob("file-*"))


def inspections(harness: Harness) -> set[Path]:
    """Return the folders of running and dead inspections. Each claim has a separate folder."""
    return set(harness.stack.folder.glob("work/inspections/*/inspect"))


def one_more(harness: Harness, seen: set[Path]) -> set[Path]:
    """Wait for another inspection to start, and return all folders seen."""
    harness.stack.wait(lambda: bool(inspections(harness) - seen), "another inspection is running")
    return seen | inspections(harness)


def give_back_inspection(harness: Harness, step: str) -> None:
    """Kill a draining light worker as it gives back an inspection."""
    seen = inspections(harness)
    dataset = harness.client.upload_dataset(harness.many_rows)
    for failpoint in both(step):
        seen = one_more(harness, seen)
        harness.stack.arm(failpoint)
        harness.stack.processes["light"].process.terminate()
        harness.wait_until_fired(failpoint)
    assert harness.client.wait_for_dataset(dataset.id).state == "ready"


def inspection(harness: Harness, step: str) -> None:
    """Kill the light worker. After its lease another one inspects the dataset, and the job that waits for it runs."""
    with harness.stack.paused("light"):
        dataset = harness.client.upload_dataset(harness.rows)
        harness.arm(step)
    job = harness.post(dataset_id=dataset.id)
    harness.end(job.id, step)
    assert harness.client.get_dataset(dataset.id).state == "ready"
