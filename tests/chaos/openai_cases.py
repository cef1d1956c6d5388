"""Kills the server at failpoints of requests that OpenAI's client sends."""

from typing import Any

from tests.chaos.harness import Harness, both


def ask(harness: Harness, method: str, *path: str, **options: Any) -> Any:
    """Send a request once, without the client's retries."""
    return harness.client._transport.request_json(method, "v1", *path, **options)


def create(harness: Harness, *, steps: int = 12, retries: int = 0) -> str:
    wanted = {
        "model": "tiny",
        "training_file": harness.dataset_id,
        "tunewright": {"max_retries": 2, "training": {"max_steps": steps, "batch_size": 2}},
    }
    counted = {"x-stainless-retry-count": str(retries)}
    return str(ask(harness, "POST", "fine_tuning", "jobs", json=wanted, headers=counted)["id"])


def create_fine_tuning_job(harness: Harness, step: str) -> None:
    """Kill the server during a creation; the client's retry finds the created job."""
    was = harness.jobs()
    harness.kill_during("before_create_fine_tuning_job", lambda: create(harness))
    assert harness.jobs() == was
    harness.kill_during("after_create_fine_tuning_job", lambda: create(harness))
    [made] = harness.jobs() - was
    assert create(harness, retries=1) == made
    assert harness.jobs() == was | {made}
    harness.end(made)


def pause_fine_tuning_job(harness: Harness, step: str) -> None:
    """Kill the server during a pause, a resume and a cancellation."""
    id = create(harness, steps=20_000)
    harness.wait_for(id, "training_started")
    for verb, before, after in (
        ("pause", "running", "paused"),
        ("resume", "paused", "running"),
        ("cancel", "running", "cancelled"),
    ):
        for failpoint, state in zip(both(f"{verb}_fine_tuning_job"), (before, after), strict=True):
            harness.kill_during(failpoint, lambda verb=verb: ask(harness, "POST", "fine_tuning", "jobs", id, verb))  # type: ignore[misc]
            harness.stack.wait(lambda state=state: harness.client.get_job(id).state == state, f"it is {state}")  # type: ignore[misc]
    harness.end(id, state="cancelled")


def create_upload(harness: Harness, step: str) -> None:
    def uploads() -> set[str]:
        return {each["id"] for each in harness.client._transport.request_json("GET", "uploads")["items"]}

    wanted = {"bytes": 100, "filename": "rows.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"}
    was = uploads()
    for failpoint, count in zip(both(step), (0, 1), strict=True):
        harness.kill_during(failpoint, lambda: ask(harness, "POST", "uploads", json=wanted))
        assert len(uploads() - was) == count


def delete_file(harness: Harness, step: str) -> None:
    id = harness.client.upload_dataset(harness.rows).id
    for failpoint, is_there in zip(both(step), (True, False), strict=True):
        harness.kill_during(failpoint, lambda: ask(harness, "DELETE", "files", id))
        assert (id in harness.datasets()) is is_there


def delete_model(harness: Harness, step: str) -> None:
    id = create(harness)
    harness.end(id)
    name = ask(harness, "GET", "fine_tuning", "jobs", id)["fine_tuned_model"]
    for failpoint, is_there in zip(both(step), (True, False), strict=True):
        harness.kill_during(failpoint, lambda: ask(harness, "DELETE", "models", name))
        assert (name in {model["id"] for model in ask(harness, "GET", "models")["data"]}) is is_there
