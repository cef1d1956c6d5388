"""Reads and writes the collector's data, for all projects."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import delete, exists, func, insert, or_, select, tuple_, update
from sqlalchemy.orm import Session

from app.db.tables import (
    Artifact,
    Attempt,
    Checkpoint,
    Dataset,
    DatasetCheck,
    DeletedObject,
    Job,
    Project,
    ProjectDeletion,
    Upload,
    UploadPart,
    Worker,
)
from app.domain.jobs.state import FINAL, JobState
from app.domain.storage_keys import find_job_id
from app.workers.presence import is_online

KEEPERS = (
    Artifact.storage_key,
    Dataset.storage_key,
    Dataset.rows_key,
    Dataset.hashes_key,
    UploadPart.storage_key,
)
"""Lists every column that names stored bytes to keep, except those of checkpoints, which name several at once."""
POSTPONED = timedelta(hours=1)


class Visit(NamedTuple):
    """Identifies an attempt that has ended and cannot resume."""

    project_id: str
    job_id: str
    number: int


class RetentionRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def project_ids(self) -> Sequence[str]:
        return self.session.scalars(select(Project.id).order_by(Project.id)).all()

    def recently_deleted(self, seconds: float) -> Sequence[str]:
        """Return the ids of projects whose deletion ended within this many seconds: a late writer may still store
        something."""
        since = func.clock_timestamp() - timedelta(seconds=seconds)
        return self.session.scalars(select(ProjectDeletion.id).where(ProjectDeletion.finished_at > since)).all()

    def jobs_to_cancel(self, project_id: str, limit: int) -> Sequence[str]:
        """Return the ids of the project's unfinished jobs whose cancellation was not requested."""
        over = (*FINAL, JobState.cancelling)
        query = select(Job.id).where(Job.project_id == project_id, Job.state.not_in(over))
        return self.session.scalars(query.order_by(Job.id).limit(limit)).all()

    def is_at_work(self, project_id: str) -> bool:
        """Return whether a job of the project has not ended, or a worker holds any of its work."""
        now = func.clock_timestamp()
        conditions = (
            exists().where(Job.project_id == project_id, Job.state.not_in(FINAL) | Job.lease_until.is_not(None)),
            exists().where(Dataset.project_id == project_id, Dataset.inspecting_until > now),
            exists().where(Upload.project_id == project_id, Upload.joining_until > now, Upload.joined_at.is_(None)),
            exists().where(DatasetCheck.project_id == project_id, DatasetCheck.leased_until > now),
        )
        return bool(self.session.scalar(select(or_(*conditions))))

    def job_ids(self, project_id: str) -> Sequence[str]:
        return self.session.scalars(select(Job.id).where(Job.project_id == project_id)).all()

    def workers_online(self) -> set[str]:
        return set(self.session.scalars(select(Worker.id).where(is_online())))

    def now(self) -> datetime:
        """Return the time by the database's clock."""
        now: datetime = self.session.scalars(select(func.clock_timestamp())).one()
        return now

    def attempts_over(self, seconds: float, limit: int, but: Sequence[Visit] = ()) -> Sequence[Visit]:
        """Return the attempts that ended this many seconds ago and were not visited yet. An attempt that its worker may
        still resume is not over, however long ago its lease expired."""
        may_come_back = Job.lease_expired & (Job.attempt == Attempt.number) & Job.state.not_in(FINAL)
        query = (
            select(Attempt.project_id, Attempt.job_id, Attempt.number)
            .join(Job, Job.id == Attempt.job_id)
            .where(
                Attempt.orphans_collected_at.is_(None),
                Attempt.ended_at < func.statement_timestamp() - timedelta(seconds=seconds),
                ~may_come_back,
                tuple_(Attempt.project_id, Attempt.job_id, Attempt.number).not_in(but),
            )
            .order_by(Attempt.ended_at)
            .limit(limit)
        )
        return [Visit(*row) for row in self.session.execute(query)]

    def mark_visited(self, visit: Visit) -> bool:
        """Mark the attempt as visited; return False if another dispatcher was faster, or its job was deleted."""
        statement = (
            update(Attempt)
            .where(
                Attempt.project_id == visit.project_id,
                Attempt.job_id == visit.job_id,
                Attempt.number == visit.number,
                Attempt.orphans_collected_at.is_(None),
            )
            .values(orphans_collected_at=func.clock_timestamp())
            .returning(Attempt.number)
        )
        return self.session.scalars(statement).one_or_none() is not None

    def known_jobs(self, project_id: str, ids: Collection[str]) -> set[str]:
        return set(self.session.scalars(select(Job.id).where(Job.project_id == project_id, Job.id.in_(ids))))

    def named(self, keys: Collection[str]) -> set[str]:
        """Return the keys that a row names, which must stay."""
        named: set[str] = set()
        for column in KEEPERS:
            found = self.session.scalars(select(column).where(column.in_(keys)))
            named |= {key for key in found if key is not None}
        job_ids = {job_id for key in keys if (job_id := find_job_id(key))}
        checkpoints = self.session.scalars(select(Checkpoint.files).where(Checkpoint.job_id.in_(job_ids)))
        return named | {file["key"] for files in checkpoints for file in files}.intersection(keys)

    def dead(self, keys: Collection[str]) -> set[str]:
        """Return the keys that are already marked deleted."""
        return set(self.session.scalars(select(DeletedObject.storage_key).where(DeletedObject.storage_key.in_(keys))))

    def mark_deleted(self, project_id: str, due: Iterable[tuple[str, datetime]]) -> None:
        """Mark objects for removal, each at its due time."""
        rows = [{"project_id": project_id, "storage_key": key, "due_at": due_at} for key, due_at in due]
        if rows:
            self.session.execute(insert(DeletedObject), rows)

    def take_due(self, limit: int, but: Sequence[int] = ()) -> Sequence[DeletedObject]:
        """Return due deleted objects, locked against other dispatchers until the transaction ends."""
        query = (
            select(DeletedObject)
            .where(DeletedObject.due_at <= func.statement_timestamp(), DeletedObject.id.not_in(but))
            .order_by(DeletedObject.due_at, DeletedObject.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return self.session.scalars(query).all()

    def forget(self, ids: Collection[int]) -> None:
        self.session.execute(delete(DeletedObject).where(DeletedObject.id.in_(ids)))

    def postpone(self, id: int) -> None:
        """Postpone an object that cannot be removed now, so that it delays no other."""
        later = func.clock_timestamp() + POSTPONED
        self.session.execute(update(DeletedObject).where(DeletedObject.id == id).values(due_at=later))
