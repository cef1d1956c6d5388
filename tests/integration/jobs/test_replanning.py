"""What becomes of a job's plan when memory did not suffice for it."""

from collections.abc import Callable
from typing import Any

import pytest

from app.db.session import Sessions, transaction
from app.db.tables import Job
from app.domain.event import MemoryReduced
from app.errors import StaleAttempt
from app.jobs.attempts import AttemptService
from app.jobs.queue import Claim
from app.jobs.service import JobService
from worker.attempt import Attempt
from worker.training.protocol import Happened, Planned, Replanned

Post = Callable[..., str]
Take = Callable[..., Claim]


def plan_of(tokens: int, *, checkpointing: bool) -> dict[str, Any]:
    return {
        "resources": {"device": "cpu"},
        "training": {"gradient_checkpointing": checkpointing},
        "engine": {"compute_dtype": "float32", "micro_batch_tokens": tokens, "fast_paths": ["loss", "packing"]},
    }


def resolved(sessions: Sessions, id: str) -> Any:
    with transaction(sessions) as session:
        job = session.get(Job, id)
        assert job is not None
        return job.resolved


def release(sessions: Sessions, held: Claim) -> None:
    with transaction(sessions) as session:
        AttemptService(session, held).release()


def test_later_attempts_start_from_the_plan_that_was_reached(
    sessions: Sessions, post: Post, claim: Take, attempt_of: Callable[[Claim], Attempt]
) -> None:
    id, held = post(), claim()
    attempt = attempt_of(held)
    large, small = plan_of(1024, checkpointing=False), plan_of(512, checkpointing=True)
    attempt._carry_on(Planned(resolved=large, total_steps=9, start_step=0))
    assert resolved(sessions, id) == large
    reduced = MemoryReduced(step=3, gradient_checkpointing=True, micro_batch_tokens=512)
    attempt._carry_on(Happened(event=reduced))
    attempt._carry_on(Replanned(resolved=small))
    assert resolved(sessions, id) == small
    with transaction(sessions) as session:
        told = JobService(session).jobs.events(held.project_id, id, 0, 1000)
        (event,) = [event for event in told if event.type == "memory_reduced"]
        assert (event.level, event.message) == (reduced.level, reduced.message)

    release(sessions, held)
    second = claim()
    # Going on from a checkpoint of before the reduction, it begins with that one's plan.
    attempt_of(second)._carry_on(Planned(resolved=large, total_steps=9, start_step=2))
    assert resolved(sessions, id) == small


def test_an_attempt_that_is_no_longer_the_jobs_changes_nothing(
    sessions: Sessions, post: Post, claim: Take, attempt_of: Callable[[Claim], Attempt]
) -> None:
    id, held = post(), claim()
    large = plan_of(1024, checkpointing=False)
    attempt = attempt_of(held)
    attempt._carry_on(Planned(resolved=large, total_steps=9, start_step=0))
    release(sessions, held)
    claim()
    with pytest.raises(StaleAttempt):
        attempt._carry_on(Replanned(resolved=plan_of(512, checkpointing=True)))
    assert resolved(sessions, id) == large
