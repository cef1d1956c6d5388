"""The commit comes before the answer: a failed commit is answered with 500 and stores nothing."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app import failpoints
from app.db.session import Sessions, transaction
from app.db.tables import Job, JobEvent, OutboxRow

Arm = Callable[[str], None]


@pytest.fixture
def arm() -> Iterator[Arm]:
    yield lambda failpoint: failpoints.arm({"FAILPOINT": failpoint})
    failpoints.arm(os.environ)


def counts(sessions: Sessions) -> list[int]:
    """Jobs, events and wake-ups."""
    with transaction(sessions) as session:
        return [session.scalar(select(func.count()).select_from(table)) or 0 for table in (Job, JobEvent, OutboxRow)]


def test_a_failed_commit_is_answered_with_500_and_creates_no_job(
    api: TestClient, sessions: Sessions, make_spec: Callable[..., dict[str, Any]], arm: Arm
) -> None:
    spec = make_spec()
    arm("before_post_job:raise")
    answer = api.post("/jobs", json=spec)
    assert answer.status_code == 500
    assert "ftjob-" not in answer.text
    assert counts(sessions) == [0, 0, 0]
    assert api.post("/jobs", json=spec).status_code == 500, "it fails each time"
    arm("")
    assert api.post("/jobs", json=spec).status_code == 201
    assert counts(sessions) == [1, 1, 1]


def test_a_job_whose_answer_was_lost_is_created(
    api: TestClient, sessions: Sessions, make_spec: Callable[..., dict[str, Any]], arm: Arm
) -> None:
    arm("after_post_job:raise")
    assert api.post("/jobs", json=make_spec()).status_code == 500
    assert counts(sessions) == [1, 1, 1]
    assert [job["state"] for job in api.get("/jobs").json()["items"]] == ["queued"]
