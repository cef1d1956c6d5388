"""Checkpoints in the database; their bytes are in storage."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Checkpoint, DeadObject, Job
from app.domain.artifact import StoredFile
from app.domain.job import FINAL


class CheckpointRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, project_id: str, job_id: str, attempt: int, step: int, files: Sequence[StoredFile]) -> None:
        """Again is no error."""
        row = {
            "project_id": project_id,
            "job_id": job_id,
            "attempt": attempt,
            "step": step,
            "files": [file.model_dump() for file in files],
        }
        self.session.execute(insert(Checkpoint).values(row).on_conflict_do_nothing())

    def of_job(self, project_id: str, job_id: str) -> Sequence[Checkpoint]:
        """The furthest first, of whatever attempt."""
        query = (
            select(Checkpoint)
            .where(Checkpoint.project_id == project_id, Checkpoint.job_id == job_id)
            .order_by(Checkpoint.step.desc(), Checkpoint.attempt.desc())
        )
        return self.session.scalars(query).all()

    def outlived(self, seconds: float, limit: int) -> Sequence[Checkpoint]:
        """Those of jobs, of any project, that have been final for so long."""
        query = (
            select(Checkpoint)
            .join(Job, Job.id == Checkpoint.job_id)
            .where(Job.state.in_(FINAL), Job.finished_at <= func.clock_timestamp() - timedelta(seconds=seconds))
            .limit(limit)
            .with_for_update(of=Checkpoint, skip_locked=True)
        )
        return self.session.scalars(query).all()

    def bury(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Remove them; their stored bytes are left to the collector."""
        for checkpoint in checkpoints:
            keys = [file["key"] for file in checkpoint.files]
            self.session.add_all(DeadObject(project_id=checkpoint.project_id, storage_key=key) for key in keys)
            self.session.delete(checkpoint)
