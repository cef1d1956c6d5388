from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app.db.session import Sessions, transaction
from app.db.tables import Attempt, Dataset, DatasetUse, Job, OutboxRow
from app.domain.datasets.formats import RecordFormat
from app.domain.datasets.report import Report
from app.domain.hardware import WorkerHardware
from app.domain.jobs.state import FailureReason, JobPhase, JobState
from app.errors import StaleAttempt
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.jobs.repository import JobRepository
from app.jobs.schemas import JobOut
from app.jobs.service import JobService
from tests.integration.jobs.conftest import MACHINE, events_of

Post = Callable[..., str]
Take = Callable[..., Claim]
StateOf = Callable[[str], JobState]


def lapse(sessions: Sessions, job_id: str) -> None:
    """Let the lease run out, and recover what is lost."""
    with transaction(sessions) as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=Job.created_at))
    with transaction(sessions) as session:
        assert [job.id for job in QueueService(session).recover_lost_work()] == [job_id]


def test_job_event_use_and_wakeup_are_written_together(sessions: Sessions, project_id: str, post: Post) -> None:
    id = post()
    with transaction(sessions) as session:
        assert events_of(session, project_id, id) == ["job_created"]
        assert session.scalars(select(OutboxRow.queue)).all() == ["training"]
        assert session.scalars(select(DatasetUse.role).where(DatasetUse.job_id == id)).all() == ["training"]


def test_claims_go_by_priority_then_age(post: Post, claim: Take) -> None:
    old, _, urgent = post(), post(priority=-1), post(priority=5)
    assert [claim().job_id, claim().job_id] == [urgent, old]


def test_a_claim_from_an_empty_queue_returns_none(claim: Take) -> None:
    assert claim() is None


def test_many_workers_claim_each_job_once(post: Post, claim: Take) -> None:
    ids = [post() for _ in range(12)]
    with ThreadPoolExecutor(8) as workers:
        claims = list(workers.map(lambda number: claim(WorkerHardware(f"w-{number}", "cpu", 8)), range(20)))
    assert sorted(each.job_id for each in claims if each) == sorted(ids)


def test_a_job_waits_for_a_machine_that_fits(post: Post, claim: Take) -> None:
    id = post(resources={"device": "cuda", "min_memory_gb": 24})
    assert claim(WorkerHardware("small", "cuda", 16.0)) is None
    assert claim(WorkerHardware("cpu", "cpu", 64.0)) is None
    assert claim(WorkerHardware("big", "cuda", 24.0)).job_id == id


def test_a_job_waits_for_its_datasets_inspection_and_fails_with_it(
    sessions: Sessions, make_dataset: Callable[..., str], post: Post, claim: Take, state_of: StateOf
) -> None:
    waiting = make_dataset("inspecting")
    id = post(dataset_id=waiting)
    assert claim() is None
    with transaction(sessions) as session:
        session.connection().exec_driver_sql("UPDATE datasets SET state = 'invalid' WHERE id = %s", (waiting,))
    with transaction(sessions) as session:
        [job] = QueueService(session).recover_lost_work()
        assert job.failure_reason == FailureReason.dataset_invalid
    assert state_of(id) is JobState.failed


@pytest.mark.parametrize(("objective", "fitting"), [("sft", "messages"), ("dpo", "preference")])
def test_a_job_fails_with_a_format_that_its_objective_does_not_train_on(
    objective: str, fitting: str, sessions: Sessions, make_dataset: Callable[..., str], post: Post, claim: Take
) -> None:
    """The job is posted before the format is known, and no worker claims it."""
    formats = {make_dataset("inspecting"): format for format in ("messages", "preference")}
    jobs = {post(dataset_id=id, objective=objective): format for id, format in formats.items()}
    validated = make_dataset("inspecting")
    jobs[post(dataset_id=make_dataset(), objective=objective, validation_dataset_id=validated)] = "text or pairs"
    formats[validated] = "preference" if fitting == "messages" else "text"
    with transaction(sessions) as session:
        for id, format in formats.items():
            session.execute(update(Dataset).where(Dataset.id == id).values(state="ready", format=format))
    assert jobs[claim().job_id] == fitting
    assert claim() is None
    with transaction(sessions) as session:
        failed = QueueService(session).recover_lost_work()
        assert {job.failure_reason for job in failed} == {FailureReason.dataset_invalid}
        assert all(f'the objective "{objective}"' in str(job.failure_message) for job in failed)
        assert {job.id for job in failed} == {id for id, format in jobs.items() if format != fitting}


def test_a_job_that_skips_bad_rows_takes_an_invalid_dataset_up_to_its_share(
    sessions: Sessions, make_dataset: Callable[..., str], post: Post, claim: Take, state_of: StateOf
) -> None:
    """The jobs are posted during the inspection; only those that may not skip so many rows fail."""
    dataset = make_dataset("inspecting")
    shares = {"less": 0.04, "as many": 0.05, "more": 0.5}
    jobs = {
        name: post(dataset_id=dataset, on_bad_rows={"action": "skip", "max_share": share})
        for name, share in shares.items()
    }
    jobs["none"] = post(dataset_id=dataset)
    report = Report(format=RecordFormat.text, num_examples=40, num_bad_rows=2, problems=[], problem_counts={})
    with transaction(sessions) as session:
        found = {"state": "invalid", "bad_share": 2 / 40, "num_examples": 40, "report": report.model_dump(mode="json")}
        session.execute(update(Dataset).where(Dataset.id == dataset).values(found))
    assert {claim().job_id, claim().job_id} == {jobs["as many"], jobs["more"]}
    assert claim() is None
    with transaction(sessions) as session:
        failed = {
            job.id: (job.failure_reason, job.failure_message) for job in QueueService(session).recover_lost_work()
        }
    assert failed.keys() == {jobs["less"], jobs["none"]}
    reason, message = failed[jobs["less"]]
    assert reason == FailureReason.too_many_bad_rows
    assert "2 of its 40 rows are bad (5.00%), more than the 4.00% that on_bad_rows allows" in message
    assert failed[jobs["none"]][0] == FailureReason.dataset_invalid
    assert state_of(jobs["less"]) is JobState.failed


def test_a_dataset_that_is_invalid_as_a_whole_fails_a_job_that_skips_bad_rows(
    sessions: Sessions, make_dataset: Callable[..., str], post: Post, claim: Take
) -> None:
    whole, bad = make_dataset(), make_dataset("inspecting")
    skip = {"action": "skip", "max_share": 0.99}
    id = post(dataset_id=whole, validation_dataset_id=bad, on_bad_rows=skip)
    with transaction(sessions) as session:
        session.execute(update(Dataset).where(Dataset.id == bad).values(state="invalid"))
    assert claim() is None
    with transaction(sessions) as session:
        [job] = QueueService(session).recover_lost_work()
        assert (job.id, job.failure_reason) == (id, FailureReason.dataset_invalid)


def test_a_lapsed_lease_queues_the_job_and_fences_the_old_attempt(
    sessions: Sessions, post: Post, claim: Take, state_of: StateOf
) -> None:
    id, first = post(), claim()
    with transaction(sessions) as session:
        AttemptService(session, first).enter(JobPhase.training)
    lapse(sessions, id)
    assert state_of(id) is JobState.queued
    second = claim()
    assert second.attempt == first.attempt + 1
    with transaction(sessions) as session:
        assert session.get(Job, id).phase is None, "the new attempt has not entered a phase yet"
    for stale in (
        lambda attempt: attempt.append_event(),
        lambda attempt: attempt.fail(FailureReason.non_finite_loss, "late"),
        lambda attempt: attempt.release(),
        lambda attempt: attempt.publish({}, [], None),
    ):
        with pytest.raises(StaleAttempt), transaction(sessions) as session:
            stale(AttemptService(session, first))
    with pytest.raises(StaleAttempt), transaction(sessions) as session:
        QueueService(session).renew(first, 60)
    assert state_of(id) is JobState.running


def test_a_worker_that_comes_back_in_time_keeps_its_attempt(
    sessions: Sessions, project_id: str, post: Post, claim: Take
) -> None:
    id, held = post(), claim()
    with transaction(sessions) as session:
        AttemptService(session, held).enter(JobPhase.training)
    lapse(sessions, id)
    with transaction(sessions) as session:
        assert JobOut.of(JobService(session).get(project_id, id)).phase is None, "a queued job has no phase"
    with transaction(sessions) as session:
        assert QueueService(session).renew(held, 60) is JobState.running
    with transaction(sessions) as session:
        job = JobService(session).get(project_id, id)
        assert (job.attempt, job.lost_attempts, job.worker_id) == (held.attempt, 0, MACHINE.worker_id)
        assert JobOut.of(job).phase is JobPhase.training, (
            "the training never stopped, and its phase is not reported again"
        )
        assert events_of(session, project_id, id)[-2:] == ["attempt_lost", "attempt_recovered"]


def test_a_wrong_token_recovers_no_attempt(sessions: Sessions, post: Post, claim: Take) -> None:
    id, held = post(), claim()
    lapse(sessions, id)
    with pytest.raises(StaleAttempt), transaction(sessions) as session:
        QueueService(session).renew(Claim(*held[:3], "guessed"), 60)


def test_three_losses_without_a_step_are_a_crash_loop(
    sessions: Sessions, project_id: str, post: Post, claim: Take
) -> None:
    id = post()
    for _ in range(3):
        claim()
        lapse(sessions, id)
    with transaction(sessions) as session:
        job = JobService(session).get(project_id, id)
        assert (job.state, job.failure_reason) == (JobState.failed, FailureReason.crash_loop)
        assert session.scalars(select(DatasetUse.active).where(DatasetUse.job_id == id)).all() in ([], [False])


def test_losses_with_progress_are_no_crash_loop(sessions: Sessions, post: Post, claim: Take, state_of: StateOf) -> None:
    id = post()
    for step in range(5):
        held = claim()
        with transaction(sessions) as session:
            AttemptService(session, held).plan({}, total_steps=100, start_step=step)
        with transaction(sessions) as session:
            session.execute(update(Job).where(Job.id == id).values(step=step + 1))
        lapse(sessions, id)
    assert state_of(id) is JobState.queued


def test_a_cancel_is_returned_by_the_heartbeat_and_completed_when_the_lease_lapses(
    sessions: Sessions, project_id: str, post: Post, claim: Take, state_of: StateOf
) -> None:
    id, held = post(), claim()
    with transaction(sessions) as session:
        JobService(session).cancel(project_id, id)
    with transaction(sessions) as session:
        assert QueueService(session).renew(held, 60) is JobState.cancelling
    lapse(sessions, id)
    assert state_of(id) is JobState.cancelled


def test_cancel_against_publish_the_first_commit_wins(
    sessions: Sessions, project_id: str, post: Post, claim: Take, state_of: StateOf
) -> None:
    id, held = post(), claim()
    with transaction(sessions) as session:
        JobService(session).cancel(project_id, id)
    with pytest.raises(StaleAttempt), transaction(sessions) as session:
        AttemptService(session, held).publish({}, [], None)
    with transaction(sessions) as session:
        AttemptService(session, held).release()
    assert state_of(id) is JobState.cancelled


def test_failures_are_retried_only_as_often_as_asked(
    sessions: Sessions, post: Post, claim: Take, state_of: StateOf
) -> None:
    id = post(max_retries=1)
    for expected in (JobState.queued, JobState.failed):
        held = claim()
        with transaction(sessions) as session:
            AttemptService(session, held).fail(FailureReason.non_finite_loss, "The loss is NaN at step 3.")
        assert state_of(id) is expected


def test_a_released_job_is_queued_without_a_failure_or_a_loss(
    sessions: Sessions, project_id: str, post: Post, claim: Take
) -> None:
    id, held = post(), claim()
    with transaction(sessions) as session:
        AttemptService(session, held).release()
    with transaction(sessions) as session:
        job = JobService(session).get(project_id, id)
        assert (job.state, job.failed_attempts, job.lost_attempts) == (JobState.queued, 0, 0)
    assert claim().attempt == held.attempt + 1


def test_the_start_of_training_is_reported_with_its_times(
    sessions: Sessions, project_id: str, post: Post, claim: Take
) -> None:
    id, held = post(), claim()
    with transaction(sessions) as session:
        session.execute(update(Job).values(created_at=func.clock_timestamp() - timedelta(seconds=100)))
        session.execute(update(Attempt).values(started_at=func.clock_timestamp() - timedelta(seconds=10)))
    with transaction(sessions) as session:
        AttemptService(session, held).training_started(
            parity_seconds=0.5, dry_run_seconds=1.5, used_standby_process=True
        )
        data = JobRepository(session).events(project_id, id, after=0, limit=10)[-1].data
    assert 100 <= data.pop("seconds_since_created") < 105
    assert 10 <= data.pop("seconds_since_claimed") < 15
    assert data == {"attempt": 1, "parity_seconds": 0.5, "dry_run_seconds": 1.5, "used_standby_process": True}
    other = Claim(held.project_id, held.job_id, held.attempt, "1" * 32)
    with pytest.raises(StaleAttempt), transaction(sessions) as session:
        AttemptService(session, other).training_started(
            parity_seconds=0.5, dry_run_seconds=1.5, used_standby_process=True
        )
