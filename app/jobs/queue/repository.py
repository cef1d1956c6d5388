"""Reads and writes the queue in the database: which jobs can be claimed, who holds them, and which are lost."""

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Interval,
    Select,
    Text,
    bindparam,
    exists,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session, aliased

from app.db.tables import Attempt, Dataset, DatasetUse, Job, Project
from app.domain.datasets.formats import RecordFormat
from app.domain.datasets.report import DatasetState
from app.domain.hardware import WorkerHardware
from app.domain.jobs.state import HELD, JobState
from app.jobs.queue.deadline import seconds_left
from app.workers.placement import claiming, conditions, values_of

CLAIM_LOCK = 7_411_902_557
"""Identifies the advisory lock that makes claims take turns, so that limits across jobs hold."""


RecoveryPart = Literal["expired", "yielding", "doomed", "late"]
RECOVERY_PARTS: Final[tuple[RecoveryPart, ...]] = ("expired", "yielding", "doomed", "late")


class Claim(NamedTuple):
    """Identifies what a worker holds: the job, the attempt that is its fence, and the secret that proves the claim."""

    project_id: str
    job_id: str
    attempt: int
    token: str


class QueueRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def lock_claims(self) -> None:
        """Keep others from claiming jobs until the transaction ends, so that limits across jobs hold."""
        self.session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CLAIM_LOCK})

    def lock_next_job(self, machine: WorkerHardware, exact_resume_wait_seconds: float) -> Job | None:
        """Return the most urgent job that the machine may claim; None if there is none."""
        values = {"fingerprint": machine.fingerprint, "wait": timedelta(seconds=exact_resume_wait_seconds)}
        return self.session.scalars(claimable_job(), values | values_of(machine)).one_or_none()

    def add_attempt(self, claim: Claim, worker_id: str) -> None:
        row = {"project_id": claim.project_id, "job_id": claim.job_id, "number": claim.attempt, "worker_id": worker_id}
        self.session.execute(insert(Attempt).values(row | {"claim_token": claim.token}))

    def renew_lease(self, claim: Claim, lease_seconds: float) -> JobState | None:
        """Return the job's state; None if the attempt no longer holds the job."""
        renewed = update(Job).where(*held(claim)).values(lease_until=lease_end(lease_seconds)).returning(Job.state)
        state = self.session.scalars(renewed).one_or_none()
        return JobState(state) if state else None

    def lock_expired_job(self, claim: Claim) -> str | None:
        """Return the id of the attempt's worker if the attempt can be recovered: its lease has expired, no other
        attempt has replaced it, and the project may run one more job. Otherwise return None."""
        query = select(Attempt.worker_id).join_from(
            Job, Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt)
        )
        query = query.where(*owned(claim), Job.lease_expired, Job.project_id.not_in(full_projects()))
        return self.session.scalars(query.with_for_update(of=Job)).one_or_none()

    def lock_jobs_to_move(self, part: RecoveryPart, but: Sequence[str] = ()) -> Sequence[Job]:
        """Return the jobs, of any project, that a part of recovery moves. Those that others have locked are left to the
        next recovery."""
        return self.session.scalars(jobs_to_move(part), {"but": but}).all()

    def find_start_step(self, job: Job) -> int | None:
        """Return the step at which the job's latest attempt started; None if it has not reported one."""
        query = select(Attempt.start_step).where(
            Attempt.project_id == job.project_id, Attempt.job_id == job.id, Attempt.number == job.attempt
        )
        return self.session.scalars(query).one_or_none()

    def projects_with_work(self) -> Sequence[str]:
        """Return the projects with a job that waits only for a worker."""
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


def values_of_claim(claim: Claim, worker_id: str, lease_seconds: float) -> dict[str, Any]:
    """Return what a claim writes to the job's row."""
    return {
        "attempt": claim.attempt,
        "claim_token": claim.token,
        "worker_id": worker_id,
        "lease_until": lease_end(lease_seconds),
        "lease_expired": False,
        "phase": None,
        "started_at": func.coalesce(Job.started_at, func.clock_timestamp()),
    }


def values_of_recovery(worker_id: str, lease_seconds: float) -> dict[str, Any]:
    """Return what recovering an expired attempt writes to the job's row: the loss is no longer counted."""
    return {
        "lease_expired": False,
        "worker_id": worker_id,
        "lease_until": lease_end(lease_seconds),
        "lost_attempts": Job.lost_attempts - 1,
        "lost_attempts_without_progress": func.greatest(Job.lost_attempts_without_progress - 1, 0),
    }


def owned(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    """Return the fence of every write by a worker."""
    return (
        Job.project_id == claim.project_id,
        Job.id == claim.job_id,
        Job.attempt == claim.attempt,
        Job.claim_token == claim.token,
    )


def held(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    """Return the fence while the attempt holds a lease, whether its job is in a held state or the attempt yields."""
    return (*owned(claim), Job.lease_until.is_not(None))


@cache
def claimable_job() -> Select[Job]:
    """Return the query for the most urgent job that a machine may claim. Its parameters are `fingerprint`, `wait` and
    `values_of` the machine. Built once: building it takes longer than running it, and idle workers run it often."""
    return (
        select(Job)
        .where(
            Job.state == JobState.queued,
            Job.lease_until.is_(None),
            *conditions(claiming()).values(),
            Job.project_id.not_in(full_projects()),
            ~uses_dataset_in(DatasetState.uploading, DatasetState.inspecting),
            ~uses_unusable_dataset(),
            ~uses_misfit_dataset(),
            resumes_exactly_on(bindparam("fingerprint", type_=Text()))
            | has_waited_for_exact_resume(bindparam("wait", type_=Interval())),
        )
        .order_by(Job.priority.desc(), Job.created_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


@cache
def jobs_to_move(part: RecoveryPart) -> Select[Job]:
    """Return the query of a part of recovery, built once; its parameter `but` holds the ids of jobs to leave out."""
    expired = Job.lease_until < func.clock_timestamp()
    queued = Job.state == JobState.queued
    where = {
        "expired": (Job.state.in_(HELD), expired),
        "yielding": (Job.state.not_in(HELD), expired),
        "doomed": (queued, uses_unusable_dataset() | uses_misfit_dataset()),
        "late": (queued, Job.lease_until.is_(None), seconds_left() <= 0),
    }
    left_out = Job.id.in_(bindparam("but", expanding=True))
    return select(Job).where(*where[part], ~left_out).with_for_update(skip_locked=True)


@cache
def full_projects() -> Select[str]:
    """Return the ids of the projects that have reached their limit of running jobs. The query is built once: every
    search for work uses it, and its aliases copy whole tables in reference cycles that only the garbage collector
    frees."""
    under_way, limited = aliased(Job), aliased(Project)
    return (
        select(limited.id)
        .outerjoin(under_way, (under_way.project_id == limited.id) & under_way.lease_until.is_not(None))
        .where(limited.max_running_jobs.is_not(None))
        .group_by(limited.id)
        .having(func.count(under_way.id) >= limited.max_running_jobs)
    )


def resumes_exactly_on(fingerprint: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition that a job resumes exactly on the machine, or from no checkpoint."""
    return Job.resume_machine.is_(None) | (Job.resume_machine == fingerprint)


def has_waited_for_exact_resume(wait: timedelta | ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that a job has waited so long that any machine may claim it, if its spec allows that."""
    waits: ColumnElement[bool] = Job.spec["training"]["on_inexact_resume"].astext == "wait"
    return (Job.queued_at <= func.clock_timestamp() - wait) & ~waits


def has_stopped_waiting_for_exact_resume(connection: Connection, project_id: str, id: str, seconds: float) -> bool:
    """Return whether the job has waited so long that any machine may claim it."""
    query = select(Job.id).where(
        Job.project_id == project_id, Job.id == id, has_waited_for_exact_resume(timedelta(seconds=seconds))
    )
    return connection.execute(query).one_or_none() is not None


def lease_end(seconds: float) -> ColumnElement[Any]:
    return func.clock_timestamp() + timedelta(seconds=seconds)


def uses_dataset_in(*states: DatasetState, of_few_jobs: bool = False) -> ColumnElement[bool]:
    """Return the condition that a job uses a dataset in one of the states. `of_few_jobs` makes the planner look up each
    job instead of reading all datasets first."""
    found = select(literal(1)).where(*uses_dataset(), Dataset.state.in_(states))
    return exists(found.offset(0) if of_few_jobs else found)


def uses_unusable_dataset() -> ColumnElement[bool]:
    """Return the condition that a job uses an invalid dataset with more bad rows than the job may skip. It agrees with
    `why_unusable`."""
    is_tolerable = func.coalesce(Dataset.bad_share <= DatasetUse.max_bad_share, False)
    return exists().where(*uses_dataset(), Dataset.state == DatasetState.invalid, ~is_tolerable)


def uses_misfit_dataset() -> ColumnElement[bool]:
    """Return the condition that a job uses a dataset whose format does not suit its objective. It agrees with
    `mismatch_of`."""
    holds_pairs, wants_pairs = Dataset.format == RecordFormat.preference, Job.spec["objective"].astext == "dpo"
    return exists().where(*uses_dataset(), Dataset.format.is_not(None), holds_pairs.is_distinct_from(wants_pairs))


def uses_dataset() -> tuple[ColumnElement[bool], ...]:
    return (
        DatasetUse.project_id == Job.project_id,
        DatasetUse.job_id == Job.id,
        Dataset.id == DatasetUse.dataset_id,
    )
