"""Finds what a job has made by its name. How names are made: `app.domain.jobs.model_names`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import exists, func, literal_column, select
from sqlalchemy.orm import Session

from app.db.tables import Adapter, Artifact, Checkpoint, Job
from app.domain.artifact import ArtifactKind
from app.domain.jobs.model_names import END, FORM, fine_tuned_name
from app.domain.jobs.state import JobState
from app.errors import AmbiguousName
from app.jobs.checkpoints.repository import CheckpointRepository

FULL: Final = Job.method == literal_column("'full'")
"""A word of the statement and no parameter, so that the planner knows that the index of whole models will do."""


class ResolvedModelName(NamedTuple):
    """What a name stands for: a checkpoint, or the result of a job that has succeeded."""

    job: Job
    checkpoint: Checkpoint | None
    adapter: Adapter | None
    """Null where a checkpoint is named, and of a fully fine-tuned model."""


def resolve_model_name(session: Session, project_id: str, name: str) -> ResolvedModelName | None:
    """AmbiguousName where two jobs have it: which of them is meant is for the user to say, by an id."""
    match = FORM.fullmatch(name)
    if match is None:
        return None
    whole, end, step = match.groups()
    found = [job for job in _ending_in(session, project_id, end) if fine_tuned_name(job) == whole]
    at = int(step) if step else None
    things = [thing for job in found if (thing := _thing(session, job, at)) is not None]
    if len(things) > 1:
        raise AmbiguousName(name, [thing.job.id for thing in things])
    return things[0] if things else None


def newest_whole_models(
    session: Session, project_id: str, until: datetime | None, limit: int
) -> Sequence[tuple[str, datetime]]:
    """Names of what full fine-tuning has made, each with its time, newest first; none later than `until`."""
    made = exists().where(Artifact.job_id == Job.id, Artifact.kind == ArtifactKind.model)
    query = select(Job).where(Job.project_id == project_id, FULL, Job.finished_at.is_not(None), made)
    if until:
        query = query.where(Job.finished_at <= until)
    jobs = session.scalars(query.order_by(Job.finished_at.desc(), Job.id.desc()).limit(limit))
    return [(fine_tuned_name(job), job.finished_at or job.created_at) for job in jobs]


def _ending_in(session: Session, project_id: str, end: str) -> Sequence[Job]:
    query = select(Job).where(Job.project_id == project_id, func.right(Job.id, END) == end).order_by(Job.id)
    return session.scalars(query).all()


def _thing(session: Session, job: Job, step: int | None) -> ResolvedModelName | None:
    if step is not None:
        checkpoint = CheckpointRepository(session).at_step(job.project_id, job.id, step)
        return ResolvedModelName(job, checkpoint, None) if checkpoint else None
    if job.state != JobState.succeeded:
        return None
    adapter = session.scalars(
        select(Adapter).where(Adapter.project_id == job.project_id, Adapter.job_id == job.id)
    ).one_or_none()
    return ResolvedModelName(job, None, adapter) if adapter or _is_model(session, job) else None


def _is_model(session: Session, job: Job) -> bool:
    query = select(Artifact.id).where(
        Artifact.project_id == job.project_id, Artifact.job_id == job.id, Artifact.kind == ArtifactKind.model
    )
    return session.scalars(query.limit(1)).one_or_none() is not None
