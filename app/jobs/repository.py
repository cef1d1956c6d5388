"""Jobs in the database. `move` is the only writer of a job's state."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Select, delete, exists, func, insert, select, tuple_, update
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.orm import Session

from app.datasets.service import DatasetService
from app.db.tables import Adapter, Artifact, Attempt, Checkpoint, DeadObject, Job, JobEvent
from app.domain.event import EventBody
from app.domain.identity import is_id
from app.domain.job import FINAL, HELD, JobState
from app.domain.page import Cursor
from app.errors import JobNotFound, StaleAttempt
from app.webhooks.service import WebhookService


class JobFilter(NamedTuple):
    states: Sequence[JobState] = ()
    base_model: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: dict[str, str] = {}  # noqa: RUF012 - never written
    without_metadata: bool = False


class JobDetails(NamedTuple):
    """What is shown of a job and stands in other rows than its own."""

    adapter_id: str | None = None
    resolved: Sequence[dict[str, Any]] = ()
    """What was decided for its attempts, oldest first, each with the attempt's number."""


NO_DETAILS: Final = JobDetails()


class JobRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, job: Job, event: EventBody) -> None:
        self.session.add(job)
        self.session.flush()
        self.append_events(job, [event])

    def get(self, project_id: str, id: str, *, lock: bool = False) -> Job:
        if not is_id(id, "ftjob"):
            raise JobNotFound(id)
        query = select(Job).where(Job.project_id == project_id, Job.id == id)
        if lock:
            query = query.with_for_update().execution_options(populate_existing=True)
        job = self.session.scalars(query).one_or_none()
        if job is None:
            raise JobNotFound(id)
        return job

    def list(self, project_id: str, wanted: JobFilter, limit: int, after: Cursor | None) -> Sequence[Job]:
        """One more than `limit`, newest first."""
        query = select(Job).where(Job.project_id == project_id)
        if wanted.states:
            query = query.where(Job.state.in_(wanted.states))
        if wanted.base_model is not None:
            query = query.where(Job.base_model == wanted.base_model)
        if wanted.created_after is not None:
            query = query.where(Job.created_at > wanted.created_after)
        if wanted.created_before is not None:
            query = query.where(Job.created_at < wanted.created_before)
        if wanted.metadata:
            query = query.where(Job.metadata_.contains(wanted.metadata))
        if wanted.without_metadata:
            query = query.where(Job.metadata_ == {})
        return self.session.scalars(newest_first(query, limit, after)).all()

    def details(self, project_id: str, job_ids: Collection[str]) -> dict[str, JobDetails]:
        """By job, in one statement."""
        numbered = func.jsonb_build_object("attempt", Attempt.number).op("||")(Attempt.resolved)
        resolved = (
            select(func.jsonb_agg(aggregate_order_by(numbered, Attempt.number), type_=JSONB))
            .where(Attempt.project_id == project_id, Attempt.job_id == Job.id, Attempt.resolved.is_not(None))
            .scalar_subquery()
        )
        query = (
            select(Job.id, Adapter.id, resolved)
            .outerjoin(Adapter, (Adapter.project_id == project_id) & (Adapter.job_id == Job.id))
            .where(Job.project_id == project_id, Job.id.in_(job_ids))
        )
        return {id: JobDetails(adapter, decided or ()) for id, adapter, decided in self.session.execute(query)}

    def resolved_before(self, project_id: str, id: str, attempt: int) -> dict[str, Any] | None:
        """Return what was decided for the newest attempt before this one that decided anything."""
        earlier = (Attempt.project_id == project_id, Attempt.job_id == id, Attempt.number < attempt)
        query = select(Attempt.resolved).where(*earlier, Attempt.resolved.is_not(None))
        return self.session.scalars(query.order_by(Attempt.number.desc()).limit(1)).one_or_none()

    def move(
        self,
        project_id: str,
        id: str,
        *,
        fence: int,
        sources: Iterable[JobState],
        target: JobState,
        events: Sequence[EventBody],
        **values: Any,
    ) -> Job:
        """Take a job from one of `sources` to `target` if its attempt is still `fence`; else StaleAttempt.

        The lease ends with the held states, unless `values` keep it."""
        if target not in HELD:
            values = {"lease_until": None, "worker_id": None} | values
        if target is JobState.queued:
            values |= {"queued_at": func.clock_timestamp()}
        if target in FINAL:
            values |= {"finished_at": func.clock_timestamp(), "phase": None}
        statement = (
            update(Job)
            .where(Job.project_id == project_id, Job.id == id, Job.attempt == fence, Job.state.in_(list(sources)))
            .values(state=target, **values)
            .returning(Job)
            .execution_options(populate_existing=True)
        )
        job = self.session.scalars(statement).one_or_none()
        if job is None:
            raise StaleAttempt
        self.append_events(job, events)
        if target in FINAL:
            DatasetService(self.session).release(project_id, id)
        WebhookService(self.session).tell(project_id, id, target)
        return job

    def let_go(self, job: Job, events: Sequence[EventBody]) -> Job:
        """End a yielding attempt's hold on a locked job, whose state is another's business by now."""
        job.lease_until = job.worker_id = job.phase = None
        job.queued_at = func.clock_timestamp()  # by the database's clock
        self.session.flush()
        self.append_events(job, events)
        return job

    def end_attempt(self, project_id: str, id: str, number: int, outcome: str | None) -> None:
        """None: it has not ended after all."""
        self.session.execute(
            update(Attempt)
            .where(Attempt.project_id == project_id, Attempt.job_id == id, Attempt.number == number)
            .values(outcome=outcome, ended_at=func.clock_timestamp() if outcome else None)
        )

    def append_events(self, job: Job, events: Sequence[EventBody]) -> None:
        """Number and store events; the update takes the job's row lock, so that numbers have no gap."""
        if not events:
            return
        last = self.session.scalars(
            update(Job)
            .where(Job.project_id == job.project_id, Job.id == job.id)
            .values(last_event_number=Job.last_event_number + len(events))
            .returning(Job.last_event_number)
        ).one()
        rows = [
            {
                "project_id": job.project_id,
                "job_id": job.id,
                "number": number,
                "type": event.type,  # type: ignore[attr-defined]  # every member of the union has it
                "level": event.level,
                "message": event.message,
                "data": event.model_dump(mode="json", exclude={"type"}),
            }
            for number, event in enumerate(events, start=last - len(events) + 1)
        ]
        self.session.execute(insert(JobEvent), rows)

    def events(self, project_id: str, id: str, after: int, limit: int) -> Sequence[JobEvent]:
        query = (
            select(JobEvent)
            .where(JobEvent.project_id == project_id, JobEvent.job_id == id, JobEvent.number > after)
            .order_by(JobEvent.number)
            .limit(limit)
        )
        return self.session.scalars(query).all()

    def has_told(self, project_id: str, id: str, event: EventBody) -> bool:
        """Whether the job has an event of this one's type."""
        kind = event.model_dump()["type"]
        told = exists().where(JobEvent.project_id == project_id, JobEvent.job_id == id, JobEvent.type == kind)
        return bool(self.session.scalar(select(told)))

    def latest_attempt(self, project_id: str, id: str) -> Attempt | None:
        query = (
            select(Attempt)
            .where(Attempt.project_id == project_id, Attempt.job_id == id)
            .order_by(Attempt.number.desc())
            .limit(1)
        )
        return self.session.scalars(query).one_or_none()

    def delete(self, job: Job) -> None:
        """Remove a job and all that hangs on it; its stored bytes are left to the collector."""
        keys = list(
            self.session.scalars(
                select(Artifact.storage_key).where(Artifact.project_id == job.project_id, Artifact.job_id == job.id)
            )
        )
        checkpoints = self.session.scalars(
            select(Checkpoint.files).where(Checkpoint.project_id == job.project_id, Checkpoint.job_id == job.id)
        )
        keys += [file["key"] for files in checkpoints for file in files]
        self.session.add_all(DeadObject(project_id=job.project_id, storage_key=key) for key in keys)
        self.session.execute(delete(Job).where(Job.project_id == job.project_id, Job.id == job.id))


def newest_first(query: Select[Job], limit: int, after: Cursor | None) -> Select[Job]:
    if after:
        query = query.where(tuple_(Job.created_at, Job.id) < tuple_(after.created_at, after.id))
    return query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit + 1)
