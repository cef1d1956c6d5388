"""`max_duration_seconds` limits the running time of all attempts, also lost ones; time in the queue does not count."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import update

from app.db.session import Sessions, transaction
from app.db.tables import Attempt, Job
from app.domain.jobs.state import FailureReason
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService

Post = Callable[..., str]
Take = Callable[..., Claim]


def pass_time(sessions: Sessions, id: str, seconds: float) -> None:
    """Move everything that has happened to the job into the past by this many seconds."""
    back = timedelta(seconds=seconds)
    with transaction(sessions) as session:
        session.execute(update(Job).where(Job.id == id).values(created_at=Job.created_at - back))
        moved = {"started_at": Attempt.started_at - back, "ended_at": Attempt.ended_at - back}
        session.execute(update(Attempt).where(Attempt.job_id == id).values(moved))


def lapse(sessions: Sessions, id: str) -> None:
    with transaction(sessions) as session:
        session.execute(update(Job).where(Job.id == id).values(lease_until=Job.lease_until - timedelta(days=1)))
        QueueService(session).recover_lost_work()


def release(sessions: Sessions, held: Claim) -> None:
    with transaction(sessions) as session:
        AttemptService(session, held).release()


def recover(sessions: Sessions) -> None:
    with transaction(sessions) as session:
        QueueService(session).recover_lost_work()


def seconds_left(sessions: Sessions, held: Claim) -> float | None:
    with transaction(sessions) as session:
        return AttemptService(session, held).seconds_left()


def read(sessions: Sessions, id: str) -> tuple[str, str | None]:
    with transaction(sessions) as session:
        job = session.get(Job, id)
        assert job is not None
        return job.state, job.failure_reason


def test_all_attempts_count_and_the_queue_does_not(sessions: Sessions, post: Post, claim: Take) -> None:
    id = post(max_duration_seconds=100)
    pass_time(sessions, id, 1000)  # in the queue
    first = claim()
    pass_time(sessions, id, 30)
    release(sessions, first)
    pass_time(sessions, id, 1000)  # in the queue again
    second = claim()
    pass_time(sessions, id, 20)
    lapse(sessions, id)
    third = claim()
    assert seconds_left(sessions, third) == pytest.approx(50, abs=5)
    assert seconds_left(sessions, second) is None, "the attempt is no longer the job's"


def test_without_a_limit_no_remaining_time_is_given(sessions: Sessions, post: Post, claim: Take) -> None:
    post()
    assert seconds_left(sessions, claim()) is None


def test_recovery_fails_a_queued_job_whose_time_is_used_up(sessions: Sessions, post: Post, claim: Take) -> None:
    spent, fresh = post(max_duration_seconds=1000, priority=1), post(max_duration_seconds=1000)
    held = claim()
    assert held.job_id == spent
    pass_time(sessions, spent, 900)
    release(sessions, held)
    recover(sessions)
    assert read(sessions, spent) == ("queued", None)
    held = claim()
    pass_time(sessions, spent, 101)
    release(sessions, held)
    recover(sessions)
    assert read(sessions, spent) == ("failed", FailureReason.deadline_exceeded)
    assert read(sessions, fresh) == ("queued", None)


def test_recovery_fails_a_lost_job_whose_time_is_used_up(sessions: Sessions, post: Post, claim: Take) -> None:
    id, _ = post(max_duration_seconds=100), claim()
    pass_time(sessions, id, 101)
    recover(sessions)
    assert read(sessions, id) == ("running", None), "its worker may still renew the lease"
    lapse(sessions, id)
    assert read(sessions, id) == ("failed", FailureReason.deadline_exceeded)


def test_an_exceeded_deadline_is_not_retried(sessions: Sessions, post: Post, claim: Take) -> None:
    id, held = post(max_duration_seconds=100, max_retries=5), claim()
    with transaction(sessions) as session:
        AttemptService(session, held).fail(FailureReason.deadline_exceeded, "It took too long.")
    assert read(sessions, id) == ("failed", FailureReason.deadline_exceeded)
