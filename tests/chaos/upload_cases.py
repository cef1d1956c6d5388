"""Kills the server, the light worker and the dispatcher at failpoints of uploads by parts."""

import hashlib
from typing import Any

from sqlalchemy import func, update

from app.db.session import transaction
from app.db.tables import Upload
from tests.chaos.harness import Harness, both
from tests.chaos.server_cases import RETAIN


def ask(harness: Harness, method: str, *path: str, **options: Any) -> Any:
    """Send a request once, without the client's retries."""
    return harness.client._transport.request_json(method, "uploads", *path, **options)


def begin(harness: Harness) -> str:
    wanted = {"bytes": harness.rows.stat().st_size, "filename": "rows.jsonl"}
    return str(ask(harness, "POST", json=wanted)["id"])


def send(harness: Harness, id: str) -> list[str]:
    """Send both halves of the file, the second one first. Return the parts' ids in the file's order."""
    data = harness.rows.read_bytes()
    halves = data[: len(data) // 2], data[len(data) // 2 :]
    return [ask(harness, "POST", id, "parts", content=half)["id"] for half in halves[::-1]][::-1]


def read_upload(harness: Harness, id: str) -> tuple[str, int]:
    shown = ask(harness, "GET", id)
    return shown["state"], len(shown["parts"])


def post_upload(harness: Harness, step: str) -> None:
    was = len(ask(harness, "GET")["items"])
    harness.kill_during("before_post_upload", lambda: begin(harness))
    assert len(ask(harness, "GET")["items"]) == was
    harness.kill_during("after_post_upload", lambda: begin(harness))
    assert len(ask(harness, "GET")["items"]) == was + 1


def part(harness: Harness, step: str) -> None:
    """Kill the server during uploads of parts. A part without a row does not exist; one with a row remains."""
    id = begin(harness)
    for failpoint in both(step):
        harness.kill_during(failpoint, lambda: ask(harness, "POST", id, "parts", content=b"x"))
    assert read_upload(harness, id) == ("pending", int(step == "post_part"))
    completed = ask(harness, "POST", id, "complete", json={"part_ids": send(harness, id)})
    assert harness.client.wait_for_dataset(completed["dataset_id"]).state == "ready"


def complete_upload(harness: Harness, step: str) -> None:
    id = begin(harness)
    wanted = {"part_ids": send(harness, id)}
    was = harness.datasets()
    harness.kill_during("before_complete_upload", lambda: ask(harness, "POST", id, "complete", json=wanted))
    assert (read_upload(harness, id), harness.datasets()) == (("pending", 2), was)
    harness.kill_during("after_complete_upload", lambda: ask(harness, "POST", id, "complete", json=wanted))
    [made] = harness.datasets() - was
    assert ask(harness, "POST", id, "complete", json=wanted)["dataset_id"] == made
    assert harness.client.wait_for_dataset(made).state == "ready"


def cancel_upload(harness: Harness, step: str) -> None:
    id = begin(harness)
    send(harness, id)
    harness.kill_during("before_cancel_upload", lambda: ask(harness, "POST", id, "cancel"))
    assert read_upload(harness, id) == ("pending", 2)
    harness.kill_during("after_cancel_upload", lambda: ask(harness, "POST", id, "cancel"))
    assert read_upload(harness, id) == ("cancelled", 0)


def join(harness: Harness, step: str) -> None:
    """Kill the light worker twice. After its lease the parts are assembled again, and the waiting job runs."""
    id = begin(harness)
    with harness.stack.paused("light"):
        made = ask(harness, "POST", id, "complete", json={"part_ids": send(harness, id)})["dataset_id"]
        harness.arm(step)
    job = harness.post(dataset_id=made)
    harness.end(job.id, step)
    dataset = harness.client.get_dataset(made)
    assert (dataset.state, dataset.sha256) == ("ready", hashlib.sha256(harness.rows.read_bytes()).hexdigest())
    assert read_upload(harness, id) == ("completed", 0)


def expire_uploads(harness: Harness, step: str) -> None:
    with harness.stack.paused("dispatcher"):
        id = begin(harness)
        send(harness, id)
        with transaction(harness.sessions) as session:
            session.execute(update(Upload).where(Upload.id == id).values(expires_at=func.clock_timestamp()))
        assert harness.run("-c", RETAIN, failpoint="before_expire_uploads") == -9
        assert read_upload(harness, id) == ("pending", 2)
        assert harness.run("-c", RETAIN, failpoint="after_expire_uploads") == -9
        assert read_upload(harness, id) == ("expired", 0)
