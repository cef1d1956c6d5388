"""A project's limit of running jobs holds for every claim, and delays no other project."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from app.db.session import Sessions, transaction
from app.db.tables import Job
from app.domain.hardware import WorkerHardware
from app.domain.jobs.state import HELD, JobState
from app.errors import StaleAttempt
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.jobs.service import JobService
from app.projects.lookup import find_or_create_project
from app.projects.service import ProjectService
from tests.integration.jobs.conftest import queued_job
from tests.integration.jobs.test_queue import lapse

Post = Callable[..., str]
Take = Callable[..., Claim | None]
Limit = Callable[[int | None], None]


@pytest.fixture
def limit(sessions: Sessions, project_id: str) -> Limit:
    def set_limit(number: int | None) -> None:
        with transaction(sessions) as session:
            ProjectService(session).change("default", max_running_jobs=number)

    return set_limit


@pytest.fixture
def stranger(sessions: Sessions) -> str:
    """Another project, without a limit, with three jobs that are queued after all others."""
    with transaction(sessions) as session:
        id = find_or_create_project(session, "stranger")
        session.add_all(queued_job(id, priority=-10) for _ in range(3))
    return id


def end(sessions: Sessions, held: Claim) -> None:
    with transaction(sessions) as session:
        JobService(session).cancel(held.project_id, held.job_id)
        AttemptService(session, held).release()


def test_concurrent_claims_keep_the_limit_and_take_another_projects_jobs(
    sessions: Sessions, project_id: str, stranger: str, post: Post, claim: Take, limit: Limit
) -> None:
    limit(2)
    ours = [post() for _ in range(8)]
    running: list[Claim] = []
    with ThreadPoolExecutor(8) as workers:
        for turn in range(4):
            names = range(turn * 12, turn * 12 + 12)
            claims = [each for each in workers.map(lambda n: claim(WorkerHardware(f"w-{n}", "cpu", 8)), names) if each]
            mine = [each for each in claims if each.project_id == project_id]
            assert len(mine) == 2, turn
            assert len(claims) - len(mine) == (3 if turn == 0 else 0)
            running += mine
            for held in mine:
                end(sessions, held)
    assert sorted(each.job_id for each in running) == sorted(ours)


def test_the_oldest_waiting_job_starts_when_one_ends(sessions: Sessions, post: Post, claim: Take, limit: Limit) -> None:
    limit(1)
    first, second, _ = post(), post(), post()
    held = claim()
    assert held is not None
    assert held.job_id == first
    assert claim() is None
    end(sessions, held)
    next_claim = claim()
    assert next_claim is not None
    assert next_claim.job_id == second


def test_a_job_that_is_being_cancelled_still_counts(
    sessions: Sessions, project_id: str, post: Post, claim: Take, limit: Limit
) -> None:
    limit(1)
    first, _ = post(), post()
    assert claim()
    with transaction(sessions) as session:
        assert JobService(session).cancel(project_id, first).state == JobState.cancelling
    assert claim() is None


def test_a_limit_of_zero_allows_no_job_and_no_limit_allows_all(post: Post, claim: Take, limit: Limit) -> None:
    limit(0)
    post(), post()
    assert claim() is None
    limit(None)
    assert claim()
    assert claim()


def test_a_lowered_limit_stops_no_running_job(sessions: Sessions, post: Post, claim: Take, limit: Limit) -> None:
    post(), post(), post()
    held = [claim(), claim()]
    limit(1)
    assert claim() is None
    for each in held:
        assert each is not None
        with transaction(sessions) as session:
            assert QueueService(session).renew(each, 60) is JobState.running


def test_a_lapsed_attempt_that_comes_back_does_not_break_the_limit(
    sessions: Sessions, post: Post, claim: Take, limit: Limit
) -> None:
    limit(1)
    lost, held = post(), claim()
    assert held is not None
    urgent = post(priority=5)
    lapse(sessions, lost)
    other = claim()
    assert other is not None
    assert other.job_id == urgent
    with pytest.raises(StaleAttempt), transaction(sessions) as session:
        QueueService(session).renew(held, 60)
    assert len(running(sessions)) == 1
    end(sessions, other)
    with transaction(sessions) as session:
        assert QueueService(session).renew(held, 60) is JobState.running


def test_no_wakeup_is_sent_for_a_project_at_its_limit(
    sessions: Sessions, project_id: str, stranger: str, post: Post, claim: Take, limit: Limit
) -> None:
    limit(1)
    post(), post()
    with transaction(sessions) as session:
        assert set(QueueService(session).projects_with_work()) == {project_id, stranger}
    claim()
    with transaction(sessions) as session:
        assert QueueService(session).projects_with_work() == [stranger]


def running(sessions: Sessions) -> list[str]:
    with transaction(sessions) as session:
        return list(session.scalars(select(Job.id).where(Job.state.in_(HELD))))
