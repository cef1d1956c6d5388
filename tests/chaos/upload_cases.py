"""What becomes of an upload by parts when the server, the light worker or the dispatcher is killed at a failpoint."""

import hashlib
from typing import Any

from sqlalchemy import func, update

from app.db.session import transaction
from app.db.tables import Upload
from tests.chaos.server_cases import RETAIN
from tests.chaos.stage import Stage, both


def ask(stage: Stage, method: str, *path: str, **options: Any) -> Any:
    """Once, and without the client's patience."""
    return stage.client._transport.ask(method, "uploads", *path, **options)


def begin(stage: Stage) -> str:
    wanted = {"bytes": stage.rows.stat().st_size, "filename": "rows.jsonl"}
    return str(ask(stage, "POST", json=wanted)["id"])


def send(stage: Stage, id: str) -> list[str]:
    """Both halves; the second is sent first."""
    data = stage.rows.read_bytes()
    halves = data[: len(data) // 2], data[len(data) // 2 :]
    return [ask(stage, "POST", id, "parts", content=half)["id"] for half in halves[::-1]][::-1]


def look(stage: Stage, id: str) -> tuple[str, int]:
    shown = ask(stage, "GET", id)
    return shown["state"], len(shown["parts"])


def post_upload(stage: Stage, step: str) -> None:
    was = len(ask(stage, "GET")["items"])
    stage.unanswered("before_post_upload", lambda: begin(stage))
    assert len(ask(stage, "GET")["items"]) == was
    stage.unanswered("after_post_upload", lambda: begin(stage))
    assert len(ask(stage, "GET")["items"]) == was + 1


def part(stage: Stage, step: str) -> None:
    """A part without a row is none; one with a row stays."""
    id = begin(stage)
    for failpoint in both(step):
        stage.unanswered(failpoint, lambda: ask(stage, "POST", id, "parts", content=b"x"))
    assert look(stage, id) == ("pending", int(step == "post_part"))
    completed = ask(stage, "POST", id, "complete", json={"part_ids": send(stage, id)})
    assert stage.client.wait_for_dataset(completed["dataset_id"]).state == "ready"


def complete_upload(stage: Stage, step: str) -> None:
    id = begin(stage)
    wanted = {"part_ids": send(stage, id)}
    was = stage.datasets()
    stage.unanswered("before_complete_upload", lambda: ask(stage, "POST", id, "complete", json=wanted))
    assert (look(stage, id), stage.datasets()) == (("pending", 2), was)
    stage.unanswered("after_complete_upload", lambda: ask(stage, "POST", id, "complete", json=wanted))
    [made] = stage.datasets() - was
    assert ask(stage, "POST", id, "complete", json=wanted)["dataset_id"] == made
    assert stage.client.wait_for_dataset(made).state == "ready"


def cancel_upload(stage: Stage, step: str) -> None:
    id = begin(stage)
    send(stage, id)
    stage.unanswered("before_cancel_upload", lambda: ask(stage, "POST", id, "cancel"))
    assert look(stage, id) == ("pending", 2)
    stage.unanswered("after_cancel_upload", lambda: ask(stage, "POST", id, "cancel"))
    assert look(stage, id) == ("cancelled", 0)


def join(stage: Stage, step: str) -> None:
    """The light worker dies, twice: after its lease the parts are joined anew, and a job that waits for them runs."""
    id = begin(stage)
    with stage.stack.paused("light"):
        made = ask(stage, "POST", id, "complete", json={"part_ids": send(stage, id)})["dataset_id"]
        stage.arm(step)
    job = stage.post(dataset_id=made)
    stage.end(job.id, step)
    dataset = stage.client.get_dataset(made)
    assert (dataset.state, dataset.sha256) == ("ready", hashlib.sha256(stage.rows.read_bytes()).hexdigest())
    assert look(stage, id) == ("completed", 0)


def expire_uploads(stage: Stage, step: str) -> None:
    with stage.stack.paused("dispatcher"):
        id = begin(stage)
        send(stage, id)
        with transaction(stage.sessions) as session:
            session.execute(update(Upload).where(Upload.id == id).values(expires_at=func.clock_timestamp()))
        assert stage.run("-c", RETAIN, failpoint="before_expire_uploads") == -9
        assert look(stage, id) == ("pending", 2)
        assert stage.run("-c", RETAIN, failpoint="after_expire_uploads") == -9
        assert look(stage, id) == ("expired", 0)
