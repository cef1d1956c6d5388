"""Serves a job's checkpoints: their list, and the adapter in each."""

from fastapi import APIRouter, Request, Response

from app.domain.jobs.model_names import checkpoint_name
from app.errors import CheckpointNotFound, CheckpointWithoutAdapter, JobNotFound, RangeNotSatisfiable
from app.jobs.checkpoints.repository import CheckpointRepository, adapter_of
from app.jobs.checkpoints.schemas import CheckpointList, CheckpointOut
from app.jobs.metrics.repository import MetricRepository
from app.jobs.repository import JobRepository
from app.web.auth import CallerDep
from app.web.dependencies import SessionDep, StorageDep
from app.web.download import CONDITIONS, TAR, bytes_as, download, tar_of
from app.web.problems import problems

router = APIRouter(prefix="/jobs", tags=["checkpoints"])


@router.get("/{id}/checkpoints", summary="List a job's checkpoints", responses=problems(JobNotFound))
def list_checkpoints(id: str, caller: CallerDep, session: SessionDep) -> CheckpointList:
    """List the newest `training.keep_checkpoints` checkpoints, the highest step first. They are deleted a week after
    the job has ended."""
    job = JobRepository(session).get(caller.project_id, id)
    checkpoints = CheckpointRepository(session).of_job(caller.project_id, id)
    points = MetricRepository(session).at(caller.project_id, id, [each.step for each in checkpoints])
    values = {step: point.values for step, point in points.items()}
    return CheckpointList(items=[CheckpointOut.of(each, job, values.get(each.step, {})) for each in checkpoints])


@router.head("/{id}/checkpoints/{checkpoint_id}/archive", include_in_schema=False)
@router.get(
    "/{id}/checkpoints/{checkpoint_id}/archive",
    summary="Download a checkpoint's adapter",
    response_class=Response,
    openapi_extra=CONDITIONS,
    responses=bytes_as(TAR) | problems(JobNotFound, CheckpointNotFound, CheckpointWithoutAdapter, RangeNotSatisfiable),
)
def get_checkpoint_archive(
    id: str, checkpoint_id: str, request: Request, caller: CallerDep, session: SessionDep, storage: StorageDep
) -> Response:
    """Download the adapter as it was at that step: one tar of the files that PEFT loads. Supports `Range`;
    `Repr-Digest` has the SHA-256 of the whole file."""
    job = JobRepository(session).get(caller.project_id, id)
    checkpoint = CheckpointRepository(session).get_of_job(caller.project_id, id, checkpoint_id)
    archive = adapter_of(checkpoint)
    return download(
        request,
        storage,
        key=archive.key,
        size=archive.size,
        sha256=archive.sha256,
        filename=tar_of(checkpoint_name(job, checkpoint.step)),
        at=checkpoint.created_at,
        media_type=TAR,
    )
