"""A job prefers a worker on which its checkpoint resumes exactly. The database's clock decides."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, text, update

from app.db.session import Sessions, transaction
from app.db.tables import Job
from app.domain.hardware import WorkerHardware
from app.domain.jobs.resuming import Difference, InexactResume
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.jobs.service import JobService
from app.workers.service import WorkerService

Post = Callable[..., str]
Take = Callable[..., Claim | None]

HERE = WorkerHardware("here-1", "cpu", 16.0, facts={"threads": 1})
TWIN = WorkerHardware("here-2", "cpu", 16.0, facts={"threads": 1})
OTHER = WorkerHardware("there-1", "cpu", 16.0, facts={"threads": 2})
EXACTLY = "a worker on which its checkpoint resumes exactly"
EPOCH = {"epochs": 1}


@pytest.fixture
def report(sessions: Sessions) -> Callable[..., None]:
    def call(claim: Claim, method: str, *arguments: Any) -> None:
        with transaction(sessions) as session:
            getattr(AttemptService(session, claim), method)(*arguments)

    return call


@pytest.fixture
def interrupted(claim: Take, post: Post, report: Callable[..., None]) -> Callable[..., str]:
    """Create a job that HERE saved at step 7 and released, and return its id."""

    def make(**training: Any) -> str:
        id = post(training=EPOCH | training)
        held = claim(HERE)
        assert held is not None
        report(held, "save_checkpoint", 7, [], "1" * 64, HERE.fingerprint)
        report(held, "release")
        return id

    return make


def backdate_queued_at(sessions: Sessions, id: str, seconds: float) -> None:
    """Make the job look as if it had been queued this many seconds ago."""
    with transaction(sessions) as session:
        past = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)
        session.execute(update(Job).where(Job.id == id).values(queued_at=past))


def taken(claim: Claim | None) -> str | None:
    return claim.job_id if claim else None


def waits_for(api: TestClient, id: str) -> str:
    return str(api.get(f"/jobs/{id}").json()["waiting_for"])


def test_an_equal_worker_takes_it_at_once_and_another_after_the_wait(
    api: TestClient, sessions: Sessions, claim: Take, interrupted: Callable[..., str]
) -> None:
    with transaction(sessions) as session:
        WorkerService(session).register(OTHER, {}, ["training"], draining=False, disk_full=False, lease=60)
    id = interrupted()
    assert claim(OTHER) is None
    assert waits_for(api, id) == f"{EXACTLY} (up to 60 s)"
    backdate_queued_at(sessions, id, 59)
    assert claim(OTHER) is None
    backdate_queued_at(sessions, id, 60)
    assert waits_for(api, id) == "1st in queue"
    assert taken(claim(OTHER)) == id

    id = interrupted()
    assert taken(claim(TWIN)) == id


def test_a_waiting_job_delays_no_other(claim: Take, post: Post, interrupted: Callable[..., str]) -> None:
    interrupted()
    fresh = post()
    assert taken(claim(OTHER)) == fresh


def test_the_wait_begins_again_each_time_the_job_is_queued(
    sessions: Sessions, claim: Take, report: Callable[..., None], interrupted: Callable[..., str], project_id: str
) -> None:
    """Also for a job that is resumed while its attempt yields: its wait begins when the attempt releases it."""
    id = interrupted()
    backdate_queued_at(sessions, id, 100)
    held = claim(HERE)
    assert held is not None
    with transaction(sessions) as session:
        JobService(session).pause(project_id, id)
        JobService(session).resume(project_id, id)
    backdate_queued_at(sessions, id, 100)
    assert claim(OTHER) is None, "its attempt yields"
    report(held, "release")
    assert claim(OTHER) is None
    assert taken(claim(HERE)) == id

    with transaction(sessions) as session:
        JobService(session).pause(project_id, id)
        session.execute(update(Job).values(lease_until=func.clock_timestamp()))
        QueueService(session).recover_lost_work()
    backdate_queued_at(sessions, id, 100)
    with transaction(sessions) as session:
        JobService(session).resume(project_id, id)
    assert claim(OTHER) is None
    assert taken(claim(TWIN)) == id

    with transaction(sessions) as session:
        session.execute(update(Job).values(lease_until=func.clock_timestamp()))
        QueueService(session).recover_lost_work()
    assert claim(OTHER) is None, "its worker was lost"
    backdate_queued_at(sessions, id, 61)
    assert taken(claim(OTHER)) == id


def test_a_job_that_waits_without_limit_is_never_taken_by_another_machine(
    api: TestClient, sessions: Sessions, claim: Take, interrupted: Callable[..., str]
) -> None:
    id = interrupted(on_inexact_resume="wait")
    with transaction(sessions) as session:
        WorkerService(session).register(OTHER, {}, ["training"], draining=False, disk_full=False, lease=60)
    backdate_queued_at(sessions, id, 10**7)
    assert claim(OTHER) is None
    assert waits_for(api, id) == f"{EXACTLY}; none is online"
    with transaction(sessions) as session:
        WorkerService(session).register(TWIN, {}, ["training"], draining=False, disk_full=False, lease=60)
    assert waits_for(api, id) == "1st in queue"
    [worker] = [each for each in api.get("/workers").json()["items"] if each["id"] == TWIN.worker_id]
    assert (worker["machine_fingerprint"], worker["machine_facts"]) == (TWIN.fingerprint, {"threads": 1})
    assert taken(claim(TWIN)) == id


def test_a_job_that_refuses_an_inexact_resume_is_still_taken_after_the_wait(
    sessions: Sessions, claim: Take, interrupted: Callable[..., str]
) -> None:
    """The training process then reads from the checkpoint what differs, and reports it."""
    id = interrupted(on_inexact_resume="fail")
    assert claim(OTHER) is None
    backdate_queued_at(sessions, id, 60)
    assert taken(claim(OTHER)) == id


def test_after_a_lost_checkpoint_the_machine_of_the_one_before_is_preferred(
    sessions: Sessions, claim: Take, report: Callable[..., None], interrupted: Callable[..., str]
) -> None:
    id = interrupted()
    backdate_queued_at(sessions, id, 60)
    held = claim(OTHER)
    assert held is not None
    report(held, "save_checkpoint", 9, [], "1" * 64, OTHER.fingerprint)
    report(held, "give_up_checkpoint", 2, 9)
    report(held, "release")
    assert claim(OTHER) is None
    held = claim(HERE)
    assert held is not None
    report(held, "give_up_checkpoint", 1, 7)
    report(held, "release")
    assert taken(claim(OTHER)) == id, "it starts from the beginning"


def test_a_job_shows_whether_it_has_resumed_exactly(
    api: TestClient, sessions: Sessions, claim: Take, report: Callable[..., None], interrupted: Callable[..., str]
) -> None:
    id = interrupted()
    assert api.get(f"/jobs/{id}").json()["exact"] is True
    [checkpoint] = api.get(f"/jobs/{id}/checkpoints").json()["items"]
    assert checkpoint["machine_fingerprint"] == HERE.fingerprint
    backdate_queued_at(sessions, id, 60)
    held = claim(OTHER)
    assert held is not None
    inexact = InexactResume(step=7, differs={"machine.threads": Difference(before=1, now=2)})
    report(held, "plan", {}, 40, 7, [inexact])
    job = api.get(f"/jobs/{id}").json()
    resumes = [{"step": 7, "differs": {"machine.threads": {"before": 1, "now": 2}}}]
    assert (job["exact"], job["inexact_resumes"]) == (False, resumes)


def test_a_claim_uses_the_queues_index(sessions: Sessions, project_id: str) -> None:
    """Ten thousand jobs that wait for another machine precede the one that is taken. Their rows suffice to skip them;
    their checkpoints are not read."""
    with transaction(sessions) as session:
        session.execute(
            text(
                "INSERT INTO jobs (id, project_id, state, priority, base_model, method, spec, metadata, min_memory_gb, "
                "device, resume_machine) SELECT 'ftjob-' || lpad(to_hex(n), 24, '0'), :project, 'queued', 0, 'tiny', "
                """'lora', '{"objective": "sft", "training": {"on_inexact_resume": "wait"}}', '{}', 0, 'auto', """
                "CASE WHEN n < 10000 THEN :other END FROM generate_series(1, 10000) n"
            ),
            {"project": project_id, "other": OTHER.fingerprint},
        )
        session.execute(text("ANALYZE jobs"))
        began = session.scalar(text("SELECT clock_timestamp()"))
        job = QueueService(session).claim(HERE, 60)
        assert job is not None
        assert job.id == f"ftjob-{10_000:024x}"
        took = session.scalar(text("SELECT clock_timestamp()")) - began
        assert took.total_seconds() < 1
        session.rollback()
