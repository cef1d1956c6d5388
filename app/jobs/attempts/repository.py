"""Stores an attempt and its job in the database. Writes to the job are fenced by the claim."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, case, cast, func, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from app.db.tables import Attempt, Job
from app.domain.jobs.state import HELD, JobPhase, JobState
from app.errors import StaleAttempt
from app.jobs.queue.deadline import seconds_left
from app.jobs.queue.repository import Claim, held, owned


class AttemptRepository:
    def __init__(self, session: Session, claim: Claim) -> None:
        self.session = session
        self.claim = claim

    # The job, while it is the attempt's

    def find_state(self) -> JobState | None:
        found = self.session.scalars(select(Job.state).where(*owned(self.claim))).one_or_none()
        return JobState(found) if found else None

    def find_seconds_left(self) -> float | None:
        """Return the rest of the job's running time in seconds; None without a limit."""
        left = self.session.scalars(select(seconds_left()).where(*owned(self.claim))).one_or_none()
        return None if left is None else float(left)

    def get_ages(self) -> tuple[timedelta, timedelta]:
        """Return the time since the job was created, and since it was claimed; raise StaleAttempt if it is lost."""
        now = func.clock_timestamp()
        query = select(now - Job.created_at, now - Attempt.started_at).join(
            Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt)
        )
        found = self.session.execute(query.where(*owned(self.claim))).one_or_none()
        if found is None:
            raise StaleAttempt
        since_created, since_claimed = found
        return since_created, since_claimed

    def lock_job(self) -> Job:
        """Return the job, locked against other writers until the transaction ends; raise StaleAttempt if it is not the
        attempt's."""
        query = select(Job).where(*held(self.claim)).with_for_update().execution_options(populate_existing=True)
        return _held(self.session.scalars(query).one_or_none())

    def update_job(self, **values: Any) -> Job:
        """Write to the job, or lock it if there is nothing to write; raise StaleAttempt if it is not the attempt's."""
        statement = (
            update(Job)
            .where(*held(self.claim))
            .values(**values or {"attempt": Job.attempt})
            .returning(Job)
            .execution_options(populate_existing=True)
        )
        return _held(self.session.scalars(statement).one_or_none())

    def set_phase(self, phase: JobPhase) -> Job:
        """Set the job's phase, unless the attempt yields: its job has none."""
        return self.update_job(phase=case((Job.state.in_(HELD), phase)))

    def record_progress(self, step: int, latest: Mapping[str, float], estimated_finish_at: datetime | None) -> Job:
        """Write the step, unless the job is past it, and the latest value of each metric."""
        return self.update_job(
            step=func.greatest(Job.step, step),
            last_metrics=func.coalesce(Job.last_metrics, cast({}, JSONB)).op("||")(cast(latest, JSONB)),
            estimated_finish_at=estimated_finish_at,
        )

    # The attempt's own row, whichever attempt runs the job now

    def lock_claim_token(self) -> str | None:
        """Return the token of the claim, and keep the attempt from being deleted until the transaction ends; None if it
        was deleted."""
        query = select(Attempt.claim_token).where(*self._own()).with_for_update(read=True, key_share=True)
        return self.session.scalars(query).one_or_none()

    def update_attempt(self, **values: Any) -> None:
        self.session.execute(update(Attempt).where(*self._own()).values(**values))

    def _own(self) -> tuple[ColumnElement[bool], ...]:
        project_id, job_id, number, _ = self.claim
        return Attempt.project_id == project_id, Attempt.job_id == job_id, Attempt.number == number


def _held(job: Job | None) -> Job:
    if job is None:
        raise StaleAttempt
    return job
