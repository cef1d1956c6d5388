"""Stores jobs in the database. `move` is the only writer of a job's state, and `JobTransitions` its only caller."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import delete, exists, func, insert, literal_column, select, update
from sqlalchemy.orm import Session

from app.db.tables import ApiKey, Artifact, Attempt, Checkpoint, DeletedJob, DeletedObject, Job, JobEvent
from app.domain.artifact import ArtifactKind
from app.domain.events.job_events import EventBody
from app.domain.ids import is_id
from app.domain.jobs.model_names import END
from app.domain.jobs.state import FINAL, HELD, JobState
from app.errors import JobNotFound, StaleAttempt


class JobFilter(NamedTuple):
    states: Sequence[JobState] = ()
    base_model: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: dict[str, str] = {}  # noqa: RUF012 - never written
    without_metadata: bool = False
    created_by: str | None = None
    name: str | None = None

    def given(self) -> dict[str, Any]:
        """Return the filters that were given a value."""
        values = {
            "states": [str(state) for state in self.states],
            "base_model": self.base_model,
            "created_after": self.created_after,
            "created_before": self.created_before,
            "metadata": self.metadata,
            "created_by": self.created_by,
            "name": self.name,
        }
        return {name: value for name, value in values.items() if value is not None and value not in ([], {})}


class JobDetails(NamedTuple):
    """Holds what is shown of a job but stored in other rows."""

    adapter_id: str | None = None
    resolved: Sequence[dict[str, Any]] = ()
    """Lists the decisions for its attempts, oldest first, each with the attempt's number."""


NO_DETAILS: Final = JobDetails()
DELETIONS_KEPT: Final = timedelta(hours=1)
FULL: Final = Job.method == literal_column("'full'")
"""Is a literal of the statement, not a parameter, so that the planner recognizes that the index of whole models
applies."""


class JobRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, job: Job, event: EventBody) -> None:
        job.last_event_number = 1
        name: Any = select(ApiKey.name).where(ApiKey.id == job.created_by_key_id).scalar_subquery()
        job.created_by_name = name
        self.session.add(job)
        self.session.flush()
        self.session.execute(insert(JobEvent), _event_rows(job, [event], 1))

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

    def list_by_id_end(self, project_id: str, end: str) -> Sequence[Job]:
        """Return the jobs whose ids end in these `END` characters."""
        query = select(Job).where(Job.project_id == project_id, func.right(Job.id, END) == end).order_by(Job.id)
        return self.session.scalars(query).all()

    def list_with_whole_model(self, project_id: str, until: datetime | None, limit: int) -> Sequence[Job]:
        """Return the jobs that have made a fully fine-tuned model, the last finished first; none later than `until`."""
        made = exists().where(Artifact.job_id == Job.id, Artifact.kind == ArtifactKind.model)
        query = select(Job).where(Job.project_id == project_id, FULL, Job.finished_at.is_not(None), made)
        if until:
            query = query.where(Job.finished_at <= until)
        return self.session.scalars(query.order_by(Job.finished_at.desc(), Job.id.desc()).limit(limit)).all()

    def resolved_before(self, project_id: str, id: str, attempt: int) -> dict[str, Any] | None:
        """Return the decisions of the newest attempt before this one that decided anything."""
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
        """Move a job from one of `sources` to `target` if its attempt is still `fence`; else raise StaleAttempt.

        The lease ends with the held states, unless `values` keep it.
        """
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
        return job

    def release_attempt(self, job: Job, events: Sequence[EventBody]) -> Job:
        """End a yielding attempt's hold on a locked job, whose state others now decide."""
        job.lease_until = job.worker_id = job.phase = None
        job.queued_at = func.clock_timestamp()  # by the database's clock
        self.session.flush()
        self.append_events(job, events)
        return job

    def end_attempt(self, project_id: str, id: str, number: int, outcome: str | None) -> None:
        """Set the attempt's outcome. None means that it has not ended after all."""
        self.session.execute(
            update(Attempt)
            .where(Attempt.project_id == project_id, Attempt.job_id == id, Attempt.number == number)
            .values(outcome=outcome, ended_at=func.clock_timestamp() if outcome else None)
        )

    def append_events(self, job: Job, events: Sequence[EventBody]) -> None:
        """Number and store events; the update takes the job's row lock, so that numbers have no gaps."""
        if not events:
            return
        last = self.session.scalars(
            update(Job)
            .where(Job.project_id == job.project_id, Job.id == job.id)
            .values(last_event_number=Job.last_event_number + len(events))
            .returning(Job.last_event_number)
        ).one()
        self.session.execute(insert(JobEvent), _event_rows(job, events, last - len(events) + 1))

    def events(self, project_id: str, id: str, after: int, limit: int) -> Sequence[JobEvent]:
        query = (
            select(JobEvent)
            .where(JobEvent.project_id == project_id, JobEvent.job_id == id, JobEvent.number > after)
            .order_by(JobEvent.number)
            .limit(limit)
        )
        return self.session.scalars(query).all()

    def has_event(self, project_id: str, id: str, event: EventBody) -> bool:
        """Return whether the job has an event of this type."""
        kind = event.model_dump()["type"]
        found = exists().where(JobEvent.project_id == project_id, JobEvent.job_id == id, JobEvent.type == kind)
        return bool(self.session.scalar(select(found)))

    def latest_attempt(self, project_id: str, id: str) -> Attempt | None:
        query = (
            select(Attempt)
            .where(Attempt.project_id == project_id, Attempt.job_id == id)
            .order_by(Attempt.number.desc())
            .limit(1)
        )
        return self.session.scalars(query).one_or_none()

    def delete(self, job: Job) -> None:
        """Delete a job and all that belongs to it; the collector deletes its stored bytes."""
        keys = list(
            self.session.scalars(
                select(Artifact.storage_key).where(Artifact.project_id == job.project_id, Artifact.job_id == job.id)
            )
        )
        checkpoints = self.session.scalars(
            select(Checkpoint.files).where(Checkpoint.project_id == job.project_id, Checkpoint.job_id == job.id)
        )
        keys += [file["key"] for files in checkpoints for file in files]
        self.session.add_all(DeletedObject(project_id=job.project_id, storage_key=key) for key in keys)
        self.session.execute(delete(Job).where(Job.project_id == job.project_id, Job.id == job.id))
        self._record_deletion(job)

    def _record_deletion(self, job: Job) -> None:
        """Record it for the streams of the project, and forget those that every stream has seen."""
        past = DeletedJob.deleted_at < func.clock_timestamp() - DELETIONS_KEPT
        self.session.execute(delete(DeletedJob).where(DeletedJob.project_id == job.project_id, past))
        self.session.add(DeletedJob(id=job.id, project_id=job.project_id))


def _event_rows(job: Job, events: Sequence[EventBody], first: int) -> list[dict[str, Any]]:
    return [
        {
            "project_id": job.project_id,
            "job_id": job.id,
            "number": number,
            "type": event.type,  # type: ignore[attr-defined]  # every member of the union has it
            "level": event.level,
            "message": event.message,
            "data": event.model_dump(mode="json", exclude={"type"}),
        }
        for number, event in enumerate(events, start=first)
    ]
