"""Resolves the names of checkpoints and results. `app.domain.jobs.model_names` defines how names are formed."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.adapters.repository import AdapterRepository
from app.artifacts.repository import ArtifactRepository
from app.db.tables import Adapter, Checkpoint, Job
from app.domain.jobs.model_names import FORM, fine_tuned_name
from app.domain.jobs.state import JobState
from app.errors import AmbiguousName
from app.jobs.checkpoints.repository import CheckpointRepository
from app.jobs.repository import JobRepository


class ResolvedModelName(NamedTuple):
    """Represents what a name stands for: a checkpoint, or the result of a job that has succeeded."""

    job: Job
    checkpoint: Checkpoint | None
    adapter: Adapter | None
    """Is null for a checkpoint and for a fully fine-tuned model."""


def resolve_model_name(session: Session, project_id: str, name: str) -> ResolvedModelName | None:
    """Resolve a name. Raise AmbiguousName if two jobs have it: the user must choose one by its id."""
    match = FORM.fullmatch(name)
    if match is None:
        return None
    whole, end, step = match.groups()
    jobs = JobRepository(session).list_by_id_end(project_id, end)
    found = [job for job in jobs if fine_tuned_name(job) == whole]
    at = int(step) if step else None
    models = [model for job in found if (model := _find_model(session, job, at)) is not None]
    if len(models) > 1:
        raise AmbiguousName(name, [model.job.id for model in models])
    return models[0] if models else None


def newest_whole_models(
    session: Session, project_id: str, until: datetime | None, limit: int
) -> Sequence[tuple[str, datetime]]:
    """Return the names of fully fine-tuned models, each with its time, newest first; none later than `until`."""
    jobs = JobRepository(session).list_with_whole_model(project_id, until, limit)
    return [(fine_tuned_name(job), job.finished_at or job.created_at) for job in jobs]


def _find_model(session: Session, job: Job, step: int | None) -> ResolvedModelName | None:
    if step is not None:
        checkpoint = CheckpointRepository(session).at_step(job.project_id, job.id, step)
        return ResolvedModelName(job, checkpoint, None) if checkpoint else None
    if job.state != JobState.succeeded:
        return None
    adapter = AdapterRepository(session).find_of_job(job.project_id, job.id)
    is_made = adapter is not None or ArtifactRepository(session).has_model(job.project_id, job.id)
    return ResolvedModelName(job, None, adapter) if is_made else None
