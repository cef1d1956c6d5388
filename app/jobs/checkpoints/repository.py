"""Stores checkpoints in the database; their bytes are in storage."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from functools import cache

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Checkpoint, DeletedObject, Job
from app.domain.artifact import ADAPTER_ARCHIVE, StoredFile
from app.domain.ids import is_id
from app.domain.jobs.state import FINAL
from app.errors import CheckpointInUse, CheckpointNotFound, CheckpointWithoutAdapter


class CheckpointRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(
        self,
        project_id: str,
        job_id: str,
        attempt: int,
        step: int,
        files: Sequence[StoredFile],
        revision: str,
        machine: str,
    ) -> None:
        """Add a checkpoint. Adding it twice is not an error."""
        row = {
            "project_id": project_id,
            "job_id": job_id,
            "attempt": attempt,
            "step": step,
            "files": [file.model_dump() for file in files],
            "base_model_revision": revision,
            "machine_fingerprint": machine,
        }
        self.session.execute(insert(Checkpoint).values(row).on_conflict_do_nothing())

    def of_job(self, project_id: str, job_id: str) -> Sequence[Checkpoint]:
        """Return the job's checkpoints of all attempts, the highest step first."""
        query = (
            select(Checkpoint)
            .where(Checkpoint.project_id == project_id, Checkpoint.job_id == job_id)
            .order_by(Checkpoint.step.desc(), Checkpoint.attempt.desc())
        )
        return self.session.scalars(query).all()

    def at_step(self, project_id: str, job_id: str, step: int) -> Checkpoint | None:
        """Find the checkpoint that the latest attempt wrote at the step."""
        return next((each for each in self.of_job(project_id, job_id) if each.step == step), None)

    def find(self, project_id: str, id: str, *, lock: bool = False) -> Checkpoint | None:
        """Find a checkpoint. `lock` prevents its removal until the transaction ends."""
        if not is_id(id, "ftckpt"):
            return None
        query = select(Checkpoint).where(Checkpoint.project_id == project_id, Checkpoint.id == id)
        return self.session.scalars(query.with_for_update(read=True, key_share=True) if lock else query).one_or_none()

    def get_of_job(self, project_id: str, job_id: str, id: str) -> Checkpoint:
        found = self.find(project_id, id)
        if found is None or found.job_id != job_id:
            raise CheckpointNotFound(id)
        return found

    def outlived(self, seconds: float, limit: int, but: Sequence[str] = ()) -> Sequence[Checkpoint]:
        """Return the checkpoints of jobs, in any project, that have been finished for this many seconds, and from which
        no unfinished job starts."""
        query = (
            select(Checkpoint)
            .join(Job, Job.id == Checkpoint.job_id)
            .where(
                Checkpoint.id.not_in(but),
                Job.state.in_(FINAL),
                Job.finished_at <= func.statement_timestamp() - timedelta(seconds=seconds),
                ~exists().where(_starts_from_it()).correlate(Checkpoint),
            )
            .limit(limit)
            .with_for_update(of=Checkpoint, skip_locked=True)
        )
        return self._unused(self.session.scalars(query).all())

    def delete_unused(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Remove those from which no unfinished job starts."""
        ids = [each.id for each in checkpoints]
        query = select(Checkpoint).where(Checkpoint.id.in_(ids)).order_by(Checkpoint.id).with_for_update()
        self.mark_deleted(self._unused(self.session.scalars(query).all()))

    def check_unused(self, project_id: str, job_id: str) -> None:
        """Lock the job's checkpoints; raise CheckpointInUse if an unfinished job starts from one of them."""
        query = select(Checkpoint).where(Checkpoint.project_id == project_id, Checkpoint.job_id == job_id)
        for checkpoint in self.session.scalars(query.with_for_update()).all():
            if users := self.users(checkpoint.project_id, [checkpoint.id]):
                raise CheckpointInUse(checkpoint.id, users[checkpoint.id])

    def users(self, project_id: str, ids: Collection[str]) -> dict[str, str]:
        """Return, by checkpoint, an unfinished job that starts from it."""
        of_project = (Job.project_id == project_id, Job.state.not_in(FINAL))
        starts = select(Job.init_from_id, Job.id).where(*of_project, Job.init_from_id.in_(ids))
        resumes = select(Job.resume_from, Job.id).where(*of_project, Job.resume_from.in_(ids))
        found = self.session.execute(starts.union_all(resumes))
        return {start: job_id for start, job_id in found if start is not None}

    def _unused(self, locked: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
        """Return the unused ones, queried again under the lock: a job may have been created just before the lock was
        taken."""
        used = {id for each in locked for id in self.users(each.project_id, [each.id])}
        return [each for each in locked if each.id not in used]

    def mark_deleted(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Remove them; the collector deletes their stored bytes."""
        for checkpoint in checkpoints:
            keys = [file["key"] for file in checkpoint.files]
            self.session.add_all(DeletedObject(project_id=checkpoint.project_id, storage_key=key) for key in keys)
            self.session.delete(checkpoint)


def adapter_of(checkpoint: Checkpoint) -> StoredFile:
    """Return its adapter as one tar; raise CheckpointWithoutAdapter if it is of a full fine-tune."""
    for file in map(StoredFile.model_validate, checkpoint.files):
        if file.path == ADAPTER_ARCHIVE:
            return file
    raise CheckpointWithoutAdapter(checkpoint.id)


@cache
def _starts_from_it() -> ColumnElement[bool]:
    """Return the condition, built once: see `app.jobs.queue.repository.full_projects`."""
    user = Job.__table__.alias("user_job")
    starts = (user.c.init_from_id == Checkpoint.id) | (user.c.resume_from == Checkpoint.id)
    return starts & (user.c.state.not_in(FINAL))
