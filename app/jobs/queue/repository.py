"""The queue as workers and recovery see it: claims, leases, and what is done about the lost."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import ColumnElement, Select, exists, func, insert, literal, select, text, update
from sqlalchemy.orm import Session, aliased

from app.datasets.service import DatasetService
from app.db.tables import Attempt, Dataset, DatasetUse, Job, Project
from app.domain.datasets.formats import RecordFormat
from app.domain.datasets.report import DatasetState
from app.domain.events.job_events import (
    AttemptLost,
    AttemptRecovered,
    EventBody,
    JobCancelled,
    JobClaimed,
    JobFailed,
    JobPaused,
)
from app.domain.hardware import WorkerHardware
from app.domain.jobs.state import (
    HELD,
    LAPSE,
    MAX_LOST_ATTEMPTS,
    MAX_LOST_ATTEMPTS_WITHOUT_PROGRESS,
    FailureReason,
    JobState,
)
from app.errors import StaleAttempt
from app.jobs.queue.deadline import SPENT, seconds_left
from app.jobs.repository import JobRepository
from app.set_aside import STRICT, SetAside
from app.workers.placement import claiming, conditions, values_of

CLAIM_LOCK = 7_411_902_557
"""Advisory lock: claims take turns, so that limits across jobs hold."""


RecoveryPart = Literal["expired", "yielding", "doomed", "late"]
RECOVERY_PARTS: Final[tuple[RecoveryPart, ...]] = ("expired", "yielding", "doomed", "late")


class Claim(NamedTuple):
    """What a worker holds: the job, the attempt that is its fence, and the secret that proves the attempt its own."""

    project_id: str
    job_id: str
    attempt: int
    token: str


class QueueRepository:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.jobs = JobRepository(session)

    def claim(self, machine: WorkerHardware, lease_seconds: float, exact_resume_wait_seconds: float = 60) -> Job | None:
        """The most urgent job that fits the machine, with a new attempt in its name; None if none waits. One whose
        checkpoint resumes exactly elsewhere waits for such a worker first, for so many seconds or for ever."""
        self._take_turn()
        query = (
            select(Job)
            .where(
                Job.state == JobState.queued,
                Job.lease_until.is_(None),
                *conditions(claiming()).values(),
                Job.project_id.not_in(full_projects()),
                ~uses_dataset_in(DatasetState.uploading, DatasetState.inspecting),
                ~uses_unusable_dataset(),
                ~uses_misfit_dataset(),
                resumes_exactly_on(machine) | has_waited_for_exact_resume(exact_resume_wait_seconds),
            )
            .order_by(Job.priority.desc(), Job.created_at, Job.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        job = self.session.scalars(query, values_of(machine)).one_or_none()
        if job is None:
            return None
        number, token = job.attempt + 1, secrets.token_hex(16)
        row = {"project_id": job.project_id, "job_id": job.id, "number": number, "worker_id": machine.worker_id}
        self.session.execute(insert(Attempt).values(row | {"claim_token": token}))
        return self.jobs.move(
            job.project_id,
            job.id,
            fence=job.attempt,
            sources=[JobState.queued],
            target=JobState.running,
            events=[JobClaimed(attempt=number, worker=machine.worker_id)],
            attempt=number,
            claim_token=token,
            worker_id=machine.worker_id,
            lease_until=lease_end(lease_seconds),
            lease_expired=False,
            phase=None,
            started_at=func.coalesce(Job.started_at, func.clock_timestamp()),
        )

    def _take_turn(self) -> None:
        """Until the transaction ends nobody else makes a job running, so that what was counted stays so."""
        self.session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CLAIM_LOCK})

    def renew(self, claim: Claim, lease_seconds: float) -> JobState:
        """Prolong the lease and tell the job's state, which may hold a wish; StaleAttempt if it is lost for good."""
        renewed = update(Job).where(*held(claim)).values(lease_until=lease_end(lease_seconds)).returning(Job.state)
        state = self.session.scalars(renewed).one_or_none()
        return JobState(state) if state else self._take_up_again(claim, lease_seconds)

    def _take_up_again(self, claim: Claim, lease_seconds: float) -> JobState:
        """A lapsed attempt that nobody has replaced is its worker's again, and the loss is given back.

        StaleAttempt also where other jobs have meanwhile filled the project's limit."""
        self._take_turn()
        query = select(Job.worker_id, Attempt.worker_id).join(
            Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt)
        )
        query = query.where(*owned(claim), Job.lease_expired, Job.project_id.not_in(full_projects()))
        found = self.session.execute(query.with_for_update(of=Job)).one_or_none()
        if found is None:
            raise StaleAttempt
        self.jobs.end_attempt(claim.project_id, claim.job_id, claim.attempt, None)
        job = self.jobs.move(
            claim.project_id,
            claim.job_id,
            fence=claim.attempt,
            sources=[JobState.queued],
            target=JobState.running,
            events=[AttemptRecovered(attempt=claim.attempt)],
            lease_expired=False,
            worker_id=found[1],
            lease_until=lease_end(lease_seconds),
            lost_attempts=Job.lost_attempts - 1,
            lost_attempts_without_progress=func.greatest(Job.lost_attempts_without_progress - 1, 0),
        )
        return JobState(job.state)

    def recover_lost_work(self, parts: Sequence[RecoveryPart] = RECOVERY_PARTS, aside: SetAside = STRICT) -> list[Job]:
        """Move on every job whose lease has lapsed, whether it is held or its attempt yields, and fail queued ones
        whose dataset turned out unusable or whose running time is spent. One that cannot be moved is set aside."""
        lapsed = Job.lease_until < func.clock_timestamp()
        queued = Job.state == JobState.queued
        found = {
            "expired": ((Job.state.in_(HELD), lapsed), self._lose),
            "yielding": ((Job.state.not_in(HELD), lapsed), self._free),
            "doomed": ((queued, uses_unusable_dataset() | uses_misfit_dataset()), self._refuse),
            "late": ((queued, Job.lease_until.is_(None), seconds_left() <= 0), self._end_late),
        }
        moved: list[Job] = []
        for where, move in (found[part] for part in parts):
            query = select(Job).where(*where, Job.id.not_in(aside.ids("jobs"))).with_for_update(skip_locked=True)
            for job in self.session.scalars(query).all():
                with aside.guard("jobs", job.id, self.session):
                    done = move(job)
                    self.session.flush()
                    moved.append(done)
        return moved

    def _lose(self, job: Job) -> Job:
        start = self.session.scalars(
            select(Attempt.start_step).where(
                Attempt.project_id == job.project_id, Attempt.job_id == job.id, Attempt.number == job.attempt
            )
        ).one_or_none()
        self.jobs.end_attempt(job.project_id, job.id, job.attempt, "lost")
        progressed = start is not None and job.step > start
        fruitless = 0 if progressed else job.lost_attempts_without_progress + 1
        target = LAPSE[JobState(job.state)]
        events: list[EventBody] = [AttemptLost(attempt=job.attempt)]
        values: dict[str, Any] = {"lost_attempts": job.lost_attempts + 1, "lost_attempts_without_progress": fruitless}
        if target is JobState.queued and (
            fruitless >= MAX_LOST_ATTEMPTS_WITHOUT_PROGRESS or job.lost_attempts + 1 > MAX_LOST_ATTEMPTS
        ):
            target = JobState.failed
            lost = job.lost_attempts + 1
            why = f"{lost} workers were lost running it, {fruitless} in a row without a step of progress."
            events.append(JobFailed(reason=FailureReason.crash_loop, detail=why))
            values |= {"failure_reason": FailureReason.crash_loop, "failure_message": why}
        elif target is JobState.cancelled:
            events.append(JobCancelled())
        elif target is JobState.paused:
            events.append(JobPaused())
        return self.jobs.move(
            job.project_id,
            job.id,
            fence=job.attempt,
            sources=[JobState(job.state)],
            target=target,
            events=events,
            lease_expired=target is JobState.queued,
            phase=job.phase if target is JobState.queued else None,
            **values,
        )

    def _free(self, job: Job) -> Job:
        """A job whose yielding attempt no longer answers. It was to stop anyway: no loss is counted."""
        self.jobs.end_attempt(job.project_id, job.id, job.attempt, "lost")
        return self.jobs.release_attempt(job, [AttemptLost(attempt=job.attempt)])

    def _refuse(self, job: Job) -> Job:
        reason, why = DatasetService(self.session).why_refused(job.project_id, job.id, job.spec["objective"])
        return self._fail_queued(job, FailureReason(reason), why)

    def _end_late(self, job: Job) -> Job:
        return self._fail_queued(job, FailureReason.deadline_exceeded, SPENT)

    def _fail_queued(self, job: Job, reason: FailureReason, why: str) -> Job:
        return self.jobs.move(
            job.project_id,
            job.id,
            fence=job.attempt,
            sources=[JobState.queued],
            target=JobState.failed,
            events=[JobFailed(reason=reason, detail=why)],
            failure_reason=reason,
            failure_message=why,
        )

    def end_attempt(self, claim: Claim, outcome: str) -> None:
        self.jobs.end_attempt(claim.project_id, claim.job_id, claim.attempt, outcome)

    def projects_with_work(self) -> Sequence[str]:
        """Projects with a job that waits for nothing but a worker."""
        query = (
            select(Job.project_id)
            .where(
                Job.state == JobState.queued,
                Job.project_id.not_in(full_projects()),
                ~uses_dataset_in(DatasetState.uploading, DatasetState.inspecting),
            )
            .distinct()
        )
        return self.session.scalars(query).all()


def owned(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    """The fence of every worker's write."""
    return (
        Job.project_id == claim.project_id,
        Job.id == claim.job_id,
        Job.attempt == claim.attempt,
        Job.claim_token == claim.token,
    )


def held(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    """The fence while the attempt is under way, whether its job is in a held state or it yields."""
    return (*owned(claim), Job.lease_until.is_not(None))


@cache
def full_projects() -> Select[str]:
    """Ids of the projects whose workers hold as many jobs as the project's limit allows. Made once: its aliases copy
    whole tables, in circles that only the garbage collector frees, and every look for work asks it."""
    under_way, limited = aliased(Job), aliased(Project)
    return (
        select(limited.id)
        .outerjoin(under_way, (under_way.project_id == limited.id) & under_way.lease_until.is_not(None))
        .where(limited.max_running_jobs.is_not(None))
        .group_by(limited.id)
        .having(func.count(under_way.id) >= limited.max_running_jobs)
    )


def resumes_exactly_on(machine: WorkerHardware) -> ColumnElement[bool]:
    """Also a job that resumes from nothing, or from a checkpoint that no machine is known for."""
    nowhere_else = Job.resume_machine.is_(None)
    return nowhere_else if machine.fingerprint is None else nowhere_else | (Job.resume_machine == machine.fingerprint)


def has_waited_for_exact_resume(seconds: float) -> ColumnElement[bool]:
    """Long enough for any other machine, if its spec lets one have it at all."""
    waits = func.coalesce(Job.spec["training"]["on_inexact_resume"].astext, "continue") == "wait"
    return (Job.queued_at <= func.clock_timestamp() - timedelta(seconds=seconds)) & ~waits


def lease_end(seconds: float) -> ColumnElement[Any]:
    return func.clock_timestamp() + timedelta(seconds=seconds)


def uses_dataset_in(*states: DatasetState, of_few_jobs: bool = False) -> ColumnElement[bool]:
    """`of_few_jobs` has the answer looked up for each, where the planner would rather read all datasets first."""
    found = select(literal(1)).where(*uses_dataset(), Dataset.state.in_(states))
    return exists(found.offset(0) if of_few_jobs else found)


def uses_unusable_dataset() -> ColumnElement[bool]:
    """Invalid ones, but for those with no more bad rows than the job may leave out: as `why_unusable` has it."""
    is_tolerable = func.coalesce(Dataset.bad_share <= DatasetUse.max_bad_share, False)
    return exists().where(*uses_dataset(), Dataset.state == DatasetState.invalid, ~is_tolerable)


def uses_misfit_dataset() -> ColumnElement[bool]:
    """Of a format that the objective does not train on, as `mismatch_of` has it."""
    holds_pairs, wants_pairs = Dataset.format == RecordFormat.preference, Job.spec["objective"].astext == "dpo"
    return exists().where(*uses_dataset(), Dataset.format.is_not(None), holds_pairs.is_distinct_from(wants_pairs))


def uses_dataset() -> tuple[ColumnElement[bool], ...]:
    return (
        DatasetUse.project_id == Job.project_id,
        DatasetUse.job_id == Job.id,
        Dataset.id == DatasetUse.dataset_id,
    )
