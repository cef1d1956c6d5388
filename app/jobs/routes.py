"""Serves `/jobs`: create, pause, resume, cancel, retry and delete fine-tuning jobs."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy.orm import Session

from app.db.tables import Job
from app.errors import (
    CheckpointInUse,
    IdempotencyKeyReused,
    InvalidJson,
    InvalidSpec,
    JobAlreadyCancelling,
    JobAlreadyPaused,
    JobFinished,
    JobNotFinished,
    JobNotFound,
    JobNotPaused,
    NoCheckpoint,
    RequestInProgress,
    TooLarge,
)
from app.errors import UnsupportedMediaType as NotAsJson
from app.jobs.schemas import EXAMPLE_SPEC, JobOut, RetryJob, ValidatedSpec
from app.jobs.service import JobService
from app.jobs.shown import find_shown
from app.jobs.wait_reason import waiting
from app.web.auth import CallerDep
from app.web.bodies.json_body import BodyDep, OptionalBodyDep, parsed, read_json, read_optional_json
from app.web.dependencies import SessionDep
from app.web.idempotency import Created, IdempotentCreateDep
from app.web.problems import problems

router = APIRouter(prefix="/jobs", tags=["jobs"])

VALIDATED: dict[int | str, dict[str, Any]] = {
    200: {"model": ValidatedSpec, "description": "With `validate_only`: the spec is valid; no job was created."}
}
SPEC_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobSpec"}, "example": EXAMPLE_SPEC}},
    }
}
RETRY_BODY: dict[str, Any] = {
    "requestBody": {"required": False, "content": {"application/json": {"schema": RetryJob.model_json_schema()}}}
}


@router.post(
    "",
    status_code=201,
    summary="Create a job",
    response_model=JobOut,
    openapi_extra=SPEC_BODY,
    responses=VALIDATED
    | problems(InvalidSpec, InvalidJson, TooLarge, NotAsJson, RequestInProgress, IdempotencyKeyReused),
)
def post_job(
    caller: CallerDep,
    session: SessionDep,
    once: IdempotentCreateDep,
    body: BodyDep,
    spec: Annotated[object, Depends(read_json)],
    validate_only: Annotated[
        bool,
        Query(description="Check the spec without creating a job. A valid spec is returned with 200 and its defaults."),
    ] = False,
) -> Response:
    """Create a fine-tuning job and queue it. After the answer 201, no crash loses the job.

    The answer to an invalid spec lists every invalid field. The dataset may still be under inspection; the job waits
    for it.
    """
    service = JobService(session)
    if validate_only:
        filled, waits = service.validate(caller.project_id, spec)
        checked = ValidatedSpec(spec=filled, waiting_for=waits.reason)
        return Response(checked.model_dump_json(), media_type="application/json")
    return once.answer(lambda: _created_job(session, service.submit(caller.project_id, spec, caller.key_id)), body)


@router.post("/{id}/cancel", summary="Cancel a job", responses=problems(JobNotFound, JobFinished, JobAlreadyCancelling))
def cancel_job(id: str, caller: CallerDep, session: SessionDep) -> JobOut:
    """Cancel a job. A queued job is cancelled at once; a running one is `cancelling` until its process has ended."""
    JobService(session).cancel(caller.project_id, id)
    return _read_job(session, caller.project_id, id)


@router.post(
    "/{id}/pause",
    summary="Pause a job",
    responses=problems(JobNotFound, JobFinished, JobAlreadyCancelling, JobAlreadyPaused),
)
def pause_job(id: str, caller: CallerDep, session: SessionDep) -> JobOut:
    """Pause a job. A queued job is paused at once; a running one is `pausing` until its checkpoint is stored."""
    JobService(session).pause(caller.project_id, id)
    return _read_job(session, caller.project_id, id)


@router.post(
    "/{id}/resume",
    summary="Resume a job",
    responses=problems(JobNotFound, JobFinished, JobAlreadyCancelling, JobNotPaused),
)
def resume_job(id: str, caller: CallerDep, session: SessionDep) -> JobOut:
    """Resume a paused job. It is queued again at its previous position among jobs of the same priority, and continues
    from its last checkpoint."""
    JobService(session).resume(caller.project_id, id)
    return _read_job(session, caller.project_id, id)


@router.post(
    "/{id}/retry",
    status_code=201,
    summary="Retry a job",
    response_model=JobOut,
    openapi_extra=RETRY_BODY,
    responses=problems(
        *(JobNotFound, JobNotFinished, NoCheckpoint, InvalidSpec, InvalidJson, TooLarge, NotAsJson),
        *(RequestInProgress, IdempotencyKeyReused),
    ),
)
def retry_job(
    id: str,
    caller: CallerDep,
    session: SessionDep,
    once: IdempotentCreateDep,
    body: OptionalBodyDep,
    raw: Annotated[object, Depends(read_optional_json)],
) -> Response:
    """Create a new job from the spec of a finished one, which `retry_of` names.

    Without a body, the same job starts again at step 0. With `from: last_checkpoint`, it continues from the old job's
    last checkpoint; changes that do not fit the checkpoint are rejected. The spec is checked again, because a dataset
    or model may have been deleted.
    """
    asked, service = parsed(RetryJob, raw), JobService(session)
    from_checkpoint = asked.from_ == "last_checkpoint"

    def retry() -> Created:
        given = caller.project_id, id, asked.changes
        return _created_job(session, service.retry(*given, from_checkpoint=from_checkpoint, key_id=caller.key_id))

    return once.answer(retry, body)


@router.delete(
    "/{id}", status_code=204, summary="Delete a job", responses=problems(JobNotFound, JobNotFinished, CheckpointInUse)
)
def delete_job(id: str, caller: CallerDep, session: SessionDep) -> None:
    """Delete a finished job with its events, metrics, checkpoints, artifacts and adapter. This cannot be undone."""
    JobService(session).delete(caller.project_id, id)


@router.head("/{id}/logs", include_in_schema=False, response_class=PlainTextResponse)
@router.get(
    "/{id}/logs", summary="Get logs", response_class=PlainTextResponse,
    responses=problems(JobNotFound),
)  # fmt: skip
def get_logs(id: str, caller: CallerDep, session: SessionDep) -> str:
    """Get the last 64 KiB of the output of the latest attempt's process. It is updated every few seconds."""
    return JobService(session).log_tail(caller.project_id, id)


def _created_job(session: Session, job: Job) -> Created:
    return Created(f"/jobs/{job.id}", _read_job(session, job.project_id, job.id))


def _read_job(session: Session, project_id: str, id: str) -> JobOut:
    session.flush()
    connection = session.connection()
    shown = find_shown(connection, project_id, id)
    waits_for = waiting(connection, shown.job, shown.standing) if shown.standing else None
    return JobOut.of(shown.job, shown.details, waits_for)
