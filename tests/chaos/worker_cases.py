"""What a worker, its training process or the worker of inspections does when it is killed at a failpoint."""

import shutil
from pathlib import Path

from tests.chaos.stage import Stage, both


def in_worker(stage: Stage, step: str) -> None:
    """The worker dies, twice: its job's lease lapses, and another attempt goes on."""
    with stage.stack.paused("training"):
        job = stage.post()
        stage.arm(step)
    kinds = stage.end(job.id, step)
    # After the commit of the publication all is done.
    assert kinds["attempt_lost"] - kinds["attempt_recovered"] == (1 if step == "publish" else 2)


def claim(stage: Stage, step: str) -> None:
    """The worker dies before its claim's commit, when nothing has begun, and then after it. One by one: a worker held
    between the two may be one that looked for work and found none."""
    with stage.stack.left_dead("training"):
        with stage.stack.paused("training"):
            job = stage.post()
            stage.stack.arm("before_claim")
        stage.wait_until_fired("before_claim")
        stage.stack.arm("after_claim")
    kinds = stage.end(job.id, step)
    assert kinds["attempt_lost"] - kinds["attempt_recovered"] == 1


def track(stage: Stage, step: str) -> None:
    """The worker dies over the file that TensorBoard reads: an attempt that follows makes it."""
    with stage.stack.paused("training"):
        job = stage.post(integrations=[{"type": "tensorboard"}])
        stage.arm(step)
    kinds = stage.end(job.id, step)
    assert kinds["attempt_lost"] - kinds["attempt_recovered"] == 2
    assert "tensorboard.tfevents" in {artifact.path for artifact in stage.client.artifacts(job.id)}


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
    release_cancelled(stage)


def release_cancelled(stage: Stage) -> None:
    """The worker dies as it ends a cancelled job: the lapse of its lease ends it, or it is ended already."""
    for failpoint in both("release"):
        job = stage.post(steps=20_000)
        stage.wait_for(job.id, "training_started")
        stage.stack.arm(failpoint)
        stage.client.cancel_job(job.id)
        stage.wait_until_fired(failpoint)
        stage.end(job.id, state="cancelled")


def request_orphan_collection(stage: Stage, step: str) -> None:
    """A worker wakes to find its attempt lost, and dies as it lets go."""
    for failpoint in both(step):
        job = stage.post(steps=20_000)
        stage.wait_for(job.id, "training_started")
        with stage.stack.paused("training"):
            stage.client.cancel_job(job.id)
            stage.end(job.id, state="cancelled")
            stage.stack.arm(failpoint)
        stage.wait_until_fired(failpoint)
        stage.end(job.id, state="cancelled")


def record_late(stage: Stage, step: str) -> None:
    """A worker dies with points that Postgres does not have, and then those that find them on the disk."""
    with stage.stack.paused("training"):
        job = stage.post()
        stage.stack.arm("before_record")
        stage.arm(step)
    kinds = stage.end(job.id, step, "record")
    assert kinds["attempt_lost"] - kinds["attempt_recovered"] == 1


def sign_of_life(stage: Stage, step: str) -> None:
    """Any worker dies of it, the one at work or the one beside it."""
    stage.arm(step)
    stage.end(stage.post().id, step)


def read_adapter(stage: Stage, step: str) -> None:
    start = stage.finished.adapter_id
    with stage.stack.paused("training"):
        job = stage.post(init_from=start)
        stage.arm(step)
    stage.end(job.id, step)


def give_up_checkpoint(stage: Stage, step: str) -> None:
    """The newer of two checkpoints is gone from storage, and the workers die that find it out. Steps enough that both
    are stored, and the first does not give way to the next."""
    steps = 600
    with stage.stack.paused("training"):
        job = stage.post(steps=steps)
        stage.stack.arm("before_publish")
    stage.wait_until_fired("before_publish")
    with stage.stack.paused("dispatcher"):
        [stored] = stage.storage.glob(f"*/jobs/{job.id}/1/checkpoints")
        for lost in sorted(stored.iterdir(), key=lambda path: int(path.name))[1:]:
            shutil.rmtree(lost)
        stage.arm(step)
    kinds = stage.end(job.id, step)
    assert kinds["warning_issued"] >= 1
    [resumed] = [event for event in stage.client.events(job.id) if event.type == "job_resumed"]
    assert resumed.data["step"] == steps // 3


def clean(stage: Stage, step: str) -> None:
    """The light worker dies over a dataset that it makes."""
    source = stage.client.wait_for_dataset(stage.dataset_id)
    with stage.stack.paused("light"):
        dataset = stage.client.clean_dataset(source.id)
        stage.arm(step)
    stage.wait_until_fired(*both(step))
    made = stage.client.wait_for_dataset(dataset.id)
    assert (made.state, made.num_examples, made.cleaned_from) == ("ready", source.num_examples, source.id)


def renew_inspection(stage: Stage, step: str) -> None:
    """The light worker dies in the middle of a long inspection."""
    with stage.stack.paused("light"):
        dataset = stage.client.upload_dataset(stage.many_rows)
        stage.arm(step)
    stage.wait_until_fired(*both(step))
    assert stage.client.wait_for_dataset(dataset.id).state == "ready"
    assert not list((stage.stack.folder / "work/inspections").glob("file-*"))


def inspections(stage: Stage) -> set[Path]:
    """Those under way, and what dead ones left; each claim has a folder of its own."""
    return set(stage.stack.folder.glob("work/inspections/*/inspect"))


def one_more(stage: Stage, seen: set[Path]) -> set[Path]:
    """All that were seen when another inspection is under way."""
    stage.stack.wait(lambda: bool(inspections(stage) - seen), "another is under way")
    return seen | inspections(stage)


def give_back_inspection(stage: Stage, step: str) -> None:
    """A light worker that is asked to stop dies as it leaves an inspection to another."""
    seen = inspections(stage)
    dataset = stage.client.upload_dataset(stage.many_rows)
    for failpoint in both(step):
        seen = one_more(stage, seen)
        stage.stack.arm(failpoint)
        stage.stack.kept["light"].process.terminate()
        stage.wait_until_fired(failpoint)
    assert stage.client.wait_for_dataset(dataset.id).state == "ready"


def inspection(stage: Stage, step: str) -> None:
    """The light worker dies: after its lease another inspects, and the job that waits for it runs."""
    with stage.stack.paused("light"):
        dataset = stage.client.upload_dataset(stage.rows)
        stage.arm(step)
    job = stage.post(dataset_id=dataset.id)
    stage.end(job.id, step)
    assert stage.client.get_dataset(dataset.id).state == "ready"
