"""The plans of a job's attempts: stored by attempt, reduced after an out-of-memory error, and shown in order."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.db.session import Sessions, transaction
from app.domain.events.job_events import OutOfMemoryFallbackEvent
from app.errors import StaleAttempt
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.service import JobService
from worker.attempt.runner import AttemptRunner
from worker.training.runtime.messages import EventMessage, Planned, Replanned

Post = Callable[..., str]
Take = Callable[..., Claim]


def plan_of(tokens: int, *, checkpointing: bool) -> dict[str, Any]:
    return {
        "resources": {"device": "cpu"},
        "training": {"gradient_checkpointing": checkpointing},
        "engine": {"compute_dtype": "float32", "micro_batch_tokens": tokens, "fast_paths": ["loss", "packing"]},
    }


LARGE, SMALL = plan_of(1024, checkpointing=False), plan_of(512, checkpointing=True)


def resolved(api: TestClient, id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/jobs/{id}").json()["resolved"]
    assert next(each for each in api.get("/jobs").json()["items"] if each["id"] == id)["resolved"] == found
    return [{name: part for name, part in each.items() if part is not None} for each in found]


def release(sessions: Sessions, held: Claim) -> None:
    with transaction(sessions) as session:
        AttemptService(session, held).release()


def test_each_attempt_shows_the_plan_that_it_reached(
    api: TestClient, sessions: Sessions, post: Post, claim: Take, attempt_of: Callable[[Claim], AttemptRunner]
) -> None:
    id, held = post(), claim()
    attempt = attempt_of(held)
    assert resolved(api, id) == []
    attempt.messages.handle(Planned(resolved=LARGE, total_steps=9, start_step=0))
    assert resolved(api, id) == [{"attempt": 1} | LARGE]
    reduced = OutOfMemoryFallbackEvent(step=3, gradient_checkpointing=True, micro_batch_tokens=512)
    attempt.messages.handle(EventMessage(event=reduced))
    attempt.messages.handle(Replanned(resolved=SMALL))
    assert resolved(api, id) == [{"attempt": 1} | SMALL]
    with transaction(sessions) as session:
        events = JobService(session).jobs.events(held.project_id, id, 0, 1000)
        (event,) = [event for event in events if event.type == "out_of_memory_fallback"]
        assert (event.level, event.message) == (reduced.level, reduced.message)

    release(sessions, held)
    second = claim()
    assert _read_earlier_plan(sessions, second) == SMALL
    # It resumes from a checkpoint saved before the reduction, so it begins with that checkpoint's plan.
    attempt_of(second).messages.handle(Planned(resolved=LARGE, total_steps=9, start_step=2))
    assert resolved(api, id) == [{"attempt": 1} | SMALL, {"attempt": 2} | LARGE]
    spec = api.get(f"/jobs/{id}").json()["spec"]
    assert (spec["training"]["gradient_checkpointing"], spec["resources"]["device"]) == ("auto", "auto")
    other = post()
    assert (resolved(api, other), len(resolved(api, id))) == ([], 2)


def _read_earlier_plan(sessions: Sessions, held: Claim) -> dict[str, Any] | None:
    with transaction(sessions) as session:
        return JobService(session).jobs.resolved_before(held.project_id, held.job_id, held.attempt)


def test_a_stale_attempt_changes_no_plan(
    api: TestClient, sessions: Sessions, post: Post, claim: Take, attempt_of: Callable[[Claim], AttemptRunner]
) -> None:
    id, held = post(), claim()
    attempt = attempt_of(held)
    attempt.messages.handle(Planned(resolved=LARGE, total_steps=9, start_step=0))
    release(sessions, held)
    claim()
    with pytest.raises(StaleAttempt):
        attempt.messages.handle(Replanned(resolved=SMALL))
    assert resolved(api, id) == [{"attempt": 1} | LARGE]
