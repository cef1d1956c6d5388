"""Pause, resume, cancel, retry and delete in every state, and attempts that yield after a pause was undone."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from app.db.session import Sessions, transaction
from app.db.tables import Attempt, Checkpoint, Job, OutboxRow
from app.domain.artifact import StoredFile
from app.domain.hardware import machine_fingerprint
from app.domain.jobs.state import FailureReason, JobPhase, JobState
from app.errors import StaleAttempt
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.jobs.service import JobService
from tests.integration.jobs.conftest import events_of

Post = Callable[..., str]
Take = Callable[..., Claim | None]
StateOf = Callable[[str], JobState]
Do = Callable[..., Any]
FILE = StoredFile(path="state.json", key="somewhere", size=1, sha256="0" * 64)
STORED = [FILE], "1" * 64, machine_fingerprint({})


@pytest.fixture
def ask(sessions: Sessions, project_id: str) -> Do:
    """Call a method of the job service in a transaction."""

    def ask(verb: str, id: str) -> Job:
        with transaction(sessions) as session:
            return getattr(JobService(session), verb)(project_id, id)

    return ask


@pytest.fixture
def report(sessions: Sessions) -> Do:
    """Call a method of the attempt service in a transaction, as the attempt's worker does."""

    def report(claim: Claim, method: str, *args: Any) -> Any:
        with transaction(sessions) as session:
            return getattr(AttemptService(session, claim), method)(*args)

    return report


@pytest.fixture
def renew(sessions: Sessions) -> Do:
    def renew(claim: Claim) -> JobState:
        with transaction(sessions) as session:
            return QueueService(session).renew(claim, 60)

    return renew


@pytest.fixture
def lapse(sessions: Sessions) -> Do:
    """Let the lease run out, and recover what is lost."""

    def lapse(id: str) -> list[str]:
        with transaction(sessions) as session:
            past = select(Job.created_at).where(Job.id == id).scalar_subquery()
            session.execute(update(Job).where(Job.id == id, Job.lease_until.is_not(None)).values(lease_until=past))
        with transaction(sessions) as session:
            return [job.id for job in QueueService(session).recover_lost_work()]

    return lapse


@pytest.fixture
def job_in(post: Post, claim: Take, ask: Do, report: Do) -> Callable[[JobState], str]:
    """Create a job, and bring it into the state by the service's methods."""

    def make(state: JobState) -> str:
        id = post()
        if state in (JobState.paused, JobState.cancelled):
            ask({"paused": "pause", "cancelled": "cancel"}[state], id)
        elif state is not JobState.queued:
            held = claim()
            assert held is not None
            match state:
                case JobState.pausing:
                    ask("pause", id)
                case JobState.cancelling:
                    ask("cancel", id)
                case JobState.succeeded:
                    report(held, "publish", {}, [FILE], None)
                case JobState.failed:
                    report(held, "fail", FailureReason.non_finite_loss, "The loss is NaN.")
        return id

    return make


OUTCOMES = {
    "queued": {"pause": "paused", "resume": "job_not_paused", "cancel": "cancelled"},
    "running": {"pause": "pausing", "resume": "job_not_paused", "cancel": "cancelling"},
    "pausing": {"pause": "job_already_paused", "resume": "queued", "cancel": "cancelling"},
    "paused": {"pause": "job_already_paused", "resume": "queued", "cancel": "cancelled"},
    "cancelling": dict.fromkeys(("pause", "resume", "cancel"), "job_already_cancelling"),
    "succeeded": dict.fromkeys(("pause", "resume", "cancel"), "job_finished"),
    "failed": dict.fromkeys(("pause", "resume", "cancel"), "job_finished"),
    "cancelled": dict.fromkeys(("pause", "resume", "cancel"), "job_finished"),
}
FINAL = ("succeeded", "failed", "cancelled")
CASES = [
    (state, verb, verbs.get(verb, "queued" if state in FINAL else "job_not_finished"))
    for state, verbs in OUTCOMES.items()
    for verb in ("pause", "resume", "cancel", "retry")
]


@pytest.mark.parametrize(("state", "verb", "outcome"), CASES)
def test_every_verb_in_every_state(
    api: TestClient, job_in: Callable[[JobState], str], state: str, verb: str, outcome: str
) -> None:
    id = job_in(JobState(state))
    assert api.get(f"/jobs/{id}").json()["state"] == state
    answer = api.post(f"/jobs/{id}/{verb}")
    job = api.get(f"/jobs/{id}").json()
    if outcome not in JobState.__members__:
        assert (answer.status_code, answer.json()["code"], job["state"]) == (409, outcome, state)
    elif verb == "retry":
        assert (answer.status_code, answer.json()["state"], job["state"]) == (201, outcome, state)
    else:
        assert (answer.status_code, answer.json(), job["state"]) == (200, job, outcome)


def test_every_state_has_its_outcomes() -> None:
    assert set(OUTCOMES) == set(JobState)


def test_a_pause_is_returned_by_the_heartbeat_and_ends_in_paused_without_a_loss(
    sessions: Sessions, project_id: str, post: Post, claim: Take, ask: Do, report: Do, renew: Do
) -> None:
    id, held = post(), claim()
    ask("pause", id)
    assert renew(held) is JobState.pausing
    report(held, "save_checkpoint", 7, *STORED)
    report(held, "release")
    with transaction(sessions) as session:
        job = JobService(session).get(project_id, id)
        assert (job.state, job.lost_attempts, job.failed_attempts, job.lease_until, job.phase) == (
            "paused",
            0,
            0,
            None,
            None,
        )
        assert session.scalars(select(Attempt.outcome)).all() == ["paused"]
        assert events_of(session, project_id, id)[2:] == ["pause_requested", "checkpoint_saved", "job_paused"]
    assert claim() is None


def test_a_resume_enqueues_a_wakeup_and_the_next_attempt_has_the_checkpoint(
    sessions: Sessions, post: Post, claim: Take, ask: Do, report: Do
) -> None:
    id, held = post(), claim()
    ask("pause", id)
    report(held, "save_checkpoint", 7, *STORED)
    report(held, "release")
    with transaction(sessions) as session:
        session.query(OutboxRow).delete()
    ask("resume", id)
    with transaction(sessions) as session:
        assert session.scalars(select(OutboxRow.queue)).all() == ["training"]
    second = claim()
    assert second.attempt == 2
    assert [found.step for found in report(second, "checkpoints")] == [7]


def test_a_job_resumed_while_pausing_waits_for_its_attempts_checkpoint(
    api: TestClient, sessions: Sessions, project_id: str, post: Post, claim: Take, ask: Do, report: Do, renew: Do
) -> None:
    id, held = post(), claim()
    report(held, "enter", JobPhase.training)
    ask("pause", id)
    assert api.post(f"/jobs/{id}/resume").json()["waiting_for"] == "its last attempt is still saving a checkpoint"
    assert claim() is None, "the attempt still holds the job"
    assert renew(held) is JobState.queued
    report(held, "enter", JobPhase.evaluating)
    assert api.get(f"/jobs/{id}").json()["phase"] is None, "a queued job has no phase"
    report(held, "save_checkpoint", 7, *STORED)
    with pytest.raises(StaleAttempt):
        report(held, "publish", {}, [FILE], None)
    report(held, "release")
    with pytest.raises(StaleAttempt):
        renew(held)
    with pytest.raises(StaleAttempt):
        report(held, "save_checkpoint", 8, *STORED)
    second = claim()
    assert second.attempt == 2
    assert [found.step for found in report(second, "checkpoints")] == [7]
    with transaction(sessions) as session:
        job = JobService(session).get(project_id, id)
        assert (job.lost_attempts, job.failed_attempts) == (0, 0)
        expected = ["pause_requested", "resume_requested", "phase_changed", "checkpoint_saved", "attempt_released"]
        assert events_of(session, project_id, id)[3:] == [*expected, "job_claimed"]


def test_a_yielding_attempt_whose_worker_dies_frees_the_job_without_a_loss(
    sessions: Sessions, project_id: str, post: Post, claim: Take, ask: Do, renew: Do, lapse: Do
) -> None:
    id, held = post(), claim()
    ask("pause", id)
    ask("resume", id)
    assert lapse(id) == [id]
    with pytest.raises(StaleAttempt):
        renew(held)
    with transaction(sessions) as session:
        job = JobService(session).get(project_id, id)
        assert (job.state, job.lost_attempts, job.lost_attempts_without_progress) == ("queued", 0, 0)
        assert events_of(session, project_id, id)[-1] == "attempt_lost"
    assert lapse(id) == []
    assert claim().attempt == 2


def test_a_job_paused_again_while_its_attempt_yields_stays_paused(
    post: Post, claim: Take, ask: Do, report: Do, renew: Do, state_of: StateOf
) -> None:
    id, held = post(), claim()
    for verb in ("pause", "resume", "pause"):
        ask(verb, id)
    assert (state_of(id), renew(held)) == (JobState.paused, JobState.paused)
    ask("resume", id)
    assert claim() is None, "the attempt still holds the job"
    ask("pause", id)
    report(held, "save_checkpoint", 7, *STORED)
    report(held, "release")
    assert state_of(id) is JobState.paused
    ask("resume", id)
    assert claim().attempt == 2


@pytest.mark.parametrize("verbs", [("pause", "resume"), ("pause", "resume", "pause")])
def test_a_cancel_while_the_attempt_yields_ends_both_at_once(
    sessions: Sessions,
    post: Post,
    claim: Take,
    ask: Do,
    report: Do,
    renew: Do,
    state_of: StateOf,
    verbs: tuple[str, ...],
) -> None:
    id, held = post(), claim()
    for verb in (*verbs, "cancel"):
        ask(verb, id)
    assert state_of(id) is JobState.cancelled
    with transaction(sessions) as session:
        attempt = session.get_one(Attempt, (id, held.attempt))
        assert attempt.outcome == "cancelled"
        assert attempt.ended_at is not None
    with pytest.raises(StaleAttempt):
        renew(held)
    with pytest.raises(StaleAttempt):
        report(held, "release")


@pytest.mark.parametrize(
    ("verbs", "state"), [(("pause", "resume"), "queued"), (("pause", "resume", "pause"), "paused")]
)
@pytest.mark.parametrize("max_retries", [0, 1])
def test_a_yielding_attempt_that_fails_is_counted(
    sessions: Sessions,
    project_id: str,
    post: Post,
    claim: Take,
    ask: Do,
    report: Do,
    verbs: tuple[str, ...],
    state: str,
    max_retries: int,
) -> None:
    id, held = post(max_retries=max_retries), claim()
    for verb in verbs:
        ask(verb, id)
    report(held, "fail", FailureReason.training_process_died, "It was killed.")
    with transaction(sessions) as session:
        job = JobService(session).get(project_id, id)
        assert (job.failed_attempts, job.lease_until, job.worker_id) == (1, None, None)
        assert session.scalars(select(Attempt.outcome)).all() == ["failed"]
        last = events_of(session, project_id, id)[-1]
        if max_retries:
            assert (job.state, job.failure_reason, last) == (state, None, "attempt_failed")
        else:
            assert (job.state, job.failure_reason, last) == ("failed", "training_process_died", "job_failed")
            assert job.finished_at is not None
            with pytest.raises(StaleAttempt):
                AttemptService(session, held).release()
    if max_retries and state == "paused":
        ask("resume", id)
    second = claim()
    assert second.attempt == 2 if max_retries else second is None


@pytest.mark.parametrize(("max_retries", "state"), [(0, "failed"), (1, "paused")])
def test_a_pausing_attempt_that_fails_pauses_or_fails_its_job(
    post: Post, claim: Take, ask: Do, report: Do, state_of: StateOf, max_retries: int, state: str
) -> None:
    id, held = post(max_retries=max_retries), claim()
    ask("pause", id)
    report(held, "fail", FailureReason.training_process_died, "It was killed.")
    assert state_of(id) == state


def test_a_pausing_job_may_still_succeed(post: Post, claim: Take, ask: Do, report: Do, state_of: StateOf) -> None:
    id, held = post(), claim()
    ask("pause", id)
    report(held, "publish", {}, [FILE], None)
    assert state_of(id) is JobState.succeeded


def test_a_pausing_job_whose_lease_expires_is_paused_and_reported(
    sessions: Sessions, project_id: str, post: Post, claim: Take, ask: Do, renew: Do, lapse: Do
) -> None:
    id, held = post(), claim()
    ask("pause", id)
    assert lapse(id) == [id]
    with pytest.raises(StaleAttempt):
        renew(held)
    with transaction(sessions) as session:
        assert events_of(session, project_id, id)[-2:] == ["attempt_lost", "job_paused"]


def test_a_lost_attempt_is_not_recovered_once_its_job_was_paused(
    post: Post, claim: Take, ask: Do, renew: Do, lapse: Do
) -> None:
    id, held = post(), claim()
    lapse(id)
    ask("pause", id)
    ask("resume", id)
    with pytest.raises(StaleAttempt):
        renew(held)
    assert claim().attempt == 2


def test_a_retry_is_a_new_job_of_the_same_spec(
    api: TestClient, sessions: Sessions, project_id: str, post: Post
) -> None:
    id = post(method="lora", name="first", priority=3, metadata={"team": "a"}, max_retries=2, validation_split=0.1)
    old = api.post(f"/jobs/{id}/cancel").json()
    answer = api.post(f"/jobs/{id}/retry")
    new = answer.json()
    assert answer.headers["location"] == f"/jobs/{new['id']}"
    assert new["id"] != id
    assert (new["retry_of"], new["state"], new["waiting_for"]) == (id, "queued", "no worker online")
    assert (new["spec"], new["name"], new["metadata"]) == (old["spec"], "first", {"team": "a"})
    assert api.get(f"/jobs/{new['id']}").json() == new
    assert api.get(f"/jobs/{id}").json() == old
    with transaction(sessions) as session:
        assert session.get_one(Job, new["id"]).priority == 3
        assert session.scalar(select(func.count()).select_from(Checkpoint)) == 0
        [created] = JobService(session).jobs.events(project_id, new["id"], 0, 10)
    assert created.data == {"retry_of": id, "resume_step": None}
    assert created.message == f"The job was created and queued as a retry of {id}."
    assert api.delete(f"/jobs/{id}").status_code == 204
    assert api.get(f"/jobs/{new['id']}").json()["retry_of"] is None


@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
def test_the_filled_spec_of_every_method_is_accepted_again(api: TestClient, post: Post, method: str) -> None:
    id = post(method=method)
    api.post(f"/jobs/{id}/cancel")
    assert api.post(f"/jobs/{id}/retry").status_code == 201


def test_a_retry_is_checked_like_a_new_job(api: TestClient, post: Post, make_dataset: Callable[..., str]) -> None:
    dataset = make_dataset()
    id = post(dataset_id=dataset)
    api.post(f"/jobs/{id}/cancel")
    assert api.delete(f"/datasets/{dataset}").status_code == 204
    answer = api.post(f"/jobs/{id}/retry")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_spec")
    assert [error["code"] for error in answer.json()["errors"]] == ["dataset_not_found"]
