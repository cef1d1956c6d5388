"""What OpenAI's client asks of a server that is killed at a failpoint meanwhile."""

from typing import Any

from tests.chaos.stage import Stage, both


def ask(stage: Stage, method: str, *path: str, **options: Any) -> Any:
    """Once, and without the client's patience."""
    return stage.client._transport.ask(method, "v1", *path, **options)


def create(stage: Stage, *, steps: int = 12, retries: int = 0) -> str:
    wanted = {
        "model": "tiny",
        "training_file": stage.dataset_id,
        "tunewright": {"max_retries": 2, "training": {"max_steps": steps, "batch_size": 2}},
    }
    counted = {"x-stainless-retry-count": str(retries)}
    return str(ask(stage, "POST", "fine_tuning", "jobs", json=wanted, headers=counted)["id"])


def create_fine_tuning_job(stage: Stage, step: str) -> None:
    """What was made and not answered is found when the client sends it again."""
    was = stage.jobs()
    stage.unanswered("before_create_fine_tuning_job", lambda: create(stage))
    assert stage.jobs() == was
    stage.unanswered("after_create_fine_tuning_job", lambda: create(stage))
    [made] = stage.jobs() - was
    assert create(stage, retries=1) == made
    assert stage.jobs() == was | {made}
    stage.end(made)


def pause_fine_tuning_job(stage: Stage, step: str) -> None:
    """Pause, resume and cancel, each during which the server dies."""
    id = create(stage, steps=20_000)
    stage.wait_for(id, "training_started")
    for verb, before, after in (
        ("pause", "running", "paused"),
        ("resume", "paused", "running"),
        ("cancel", "running", "cancelled"),
    ):
        for failpoint, state in zip(both(f"{verb}_fine_tuning_job"), (before, after), strict=True):
            stage.unanswered(failpoint, lambda verb=verb: ask(stage, "POST", "fine_tuning", "jobs", id, verb))  # type: ignore[misc]
            stage.stack.wait(lambda state=state: stage.client.get_job(id).state == state, f"it is {state}")  # type: ignore[misc]
    stage.end(id, state="cancelled")


def create_upload(stage: Stage, step: str) -> None:
    def uploads() -> set[str]:
        return {each["id"] for each in stage.client._transport.ask("GET", "uploads")["items"]}

    wanted = {"bytes": 100, "filename": "rows.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"}
    was = uploads()
    for failpoint, count in zip(both(step), (0, 1), strict=True):
        stage.unanswered(failpoint, lambda: ask(stage, "POST", "uploads", json=wanted))
        assert len(uploads() - was) == count


def delete_file(stage: Stage, step: str) -> None:
    id = stage.client.upload_dataset(stage.rows).id
    for failpoint, is_there in zip(both(step), (True, False), strict=True):
        stage.unanswered(failpoint, lambda: ask(stage, "DELETE", "files", id))
        assert (id in stage.datasets()) is is_there


def delete_model(stage: Stage, step: str) -> None:
    id = create(stage)
    stage.end(id)
    name = ask(stage, "GET", "fine_tuning", "jobs", id)["fine_tuned_model"]
    for failpoint, is_there in zip(both(step), (True, False), strict=True):
        stage.unanswered(failpoint, lambda: ask(stage, "DELETE", "models", name))
        assert (name in {model["id"] for model in ask(stage, "GET", "models")["data"]}) is is_there
