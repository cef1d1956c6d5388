"""`/jobs`: post, list, look at, pause, resume, cancel, retry and delete fine-tuning jobs."""

import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from app.db.tables import Job
from app.domain.job import JobState
from app.errors import (
    AlreadyCancelling,
    AlreadyPaused,
    BadCursor,
    CheckpointInUse,
    IdempotencyKeyReused,
    InvalidSpec,
    JobFinal,
    JobNotFinal,
    JobNotFound,
    NoCheckpoint,
    NotJson,
    NotPaused,
    RequestInProgress,
    TooLarge,
)
from app.errors import UnsupportedMediaType as NotAsJson
from app.jobs.repository import NO_DETAILS, JobFilter
from app.jobs.schemas import EXAMPLE_SPEC, JobOut, RetryJob, ValidatedSpec
from app.jobs.service import JobService
from app.web.auth import CallerDep
from app.web.body import BodyDep, OptionalBodyDep, parsed, read_json, read_optional_json
from app.web.dependencies import PageDep, SessionDep
from app.web.idempotency import Created, OnceDep
from app.web.page import Page, page_of
from app.web.parameters import ANY_KEY, states_of
from app.web.problems import problems

router = APIRouter(prefix="/jobs", tags=["jobs"])

METADATA = re.compile(r"metadata\[(.{1,64})\]")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)
VALIDATED: dict[int | str, dict[str, Any]] = {
    200: {"model": ValidatedSpec, "description": "With `validate_only`: the spec is valid, and nothing was made."}
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


def _written_out(value: object) -> object:
    """Not a bare number, which pydantic would take for seconds since 1970, nor a time of nobody's clock."""
    if isinstance(value, str) and not INSTANT.fullmatch(value):
        raise PydanticCustomError(
            "not_rfc_3339", "Write the instant by RFC 3339, with its offset: 2026-01-05T10:12:13Z."
        )
    return value


Instant = Annotated[datetime, BeforeValidator(_written_out)]
MetadataQuery = Annotated[
    str | None,
    Query(
        alias=f"metadata{ANY_KEY}",
        description="Only jobs whose metadata has this value under the key; may be repeated with other keys.",
    ),
]


async def get_filter(
    request: Request,
    states: Annotated[tuple[JobState, ...], Depends(states_of(JobState, "jobs"))],
    model: Annotated[str | None, Query(max_length=200, description="Only jobs on this base model.")] = None,
    created_after: Annotated[Instant | None, Query(description="Only jobs posted later (RFC 3339).")] = None,
    created_before: Annotated[Instant | None, Query(description="Only jobs posted earlier.")] = None,
    metadata: MetadataQuery = None,
) -> JobFilter:
    return JobFilter(states, model, created_after, created_before, metadata_of(request))


def metadata_of(request: Request) -> dict[str, str]:
    pairs = [(METADATA.fullmatch(name), value) for name, value in request.query_params.multi_items()]
    return {match[1]: value for match, value in pairs if match}


@router.post(
    "",
    status_code=201,
    summary="Post a job",
    response_model=JobOut,
    openapi_extra=SPEC_BODY,
    responses=VALIDATED | problems(InvalidSpec, NotJson, TooLarge, NotAsJson, RequestInProgress, IdempotencyKeyReused),
)
def post_job(
    caller: CallerDep,
    session: SessionDep,
    once: OnceDep,
    body: BodyDep,
    spec: Annotated[object, Depends(read_json)],
    validate_only: Annotated[
        bool, Query(description="Check the spec and make nothing; a good one is answered with 200, filled in.")
    ] = False,
) -> Response:
    """Queue a fine-tuning job. Once it is answered with 201 the job is safe: no crash loses it.

    A bad spec is answered with every bad field at once. The dataset may still be under inspection; the job waits."""
    service = JobService(session)
    if validate_only:
        filled, waits = service.validate(caller.project_id, spec)
        checked = ValidatedSpec(spec=filled, waiting_for=waits.reason)
        return Response(checked.model_dump_json(), media_type="application/json")
    return once.answer(lambda: _posted(service, service.submit(caller.project_id, spec)), body)


@router.get("", summary="List jobs", responses=problems(BadCursor))
def list_jobs(
    caller: CallerDep, session: SessionDep, page: PageDep, wanted: Annotated[JobFilter, Depends(get_filter)]
) -> Page[JobOut]:
    """The project's jobs, newest first. Filter by metadata with `metadata[key]=value`."""
    service = JobService(session)
    jobs = service.list(caller.project_id, wanted, page.limit, page.after)
    details = service.details(caller.project_id, jobs)
    return page_of(jobs, page.limit, lambda job: JobOut.of(job, details.get(job.id, NO_DETAILS)))


@router.get("/{id}", summary="Look at a job", responses=problems(JobNotFound))
def get_job(id: str, caller: CallerDep, session: SessionDep) -> JobOut:
    """State, phase, progress, latest metrics, estimated finish, the spec, what was decided of it, and why it failed."""
    return _shown(JobService(session), caller.project_id, id)


@router.post("/{id}/cancel", summary="Cancel a job", responses=problems(JobNotFound, JobFinal, AlreadyCancelling))
def cancel_job(id: str, caller: CallerDep, session: SessionDep) -> JobOut:
    """A queued job is cancelled at once; a running one is `cancelling` until its process is gone."""
    service = JobService(session)
    service.cancel(caller.project_id, id)
    return _shown(service, caller.project_id, id)


@router.post(
    "/{id}/pause", summary="Pause a job", responses=problems(JobNotFound, JobFinal, AlreadyCancelling, AlreadyPaused)
)
def pause_job(id: str, caller: CallerDep, session: SessionDep) -> JobOut:
    """A queued job is paused at once; a running one is `pausing` until its checkpoint is stored."""
    service = JobService(session)
    service.pause(caller.project_id, id)
    return _shown(service, caller.project_id, id)


@router.post(
    "/{id}/resume", summary="Resume a job", responses=problems(JobNotFound, JobFinal, AlreadyCancelling, NotPaused)
)
def resume_job(id: str, caller: CallerDep, session: SessionDep) -> JobOut:
    """The job is queued again and goes on from its last checkpoint, at its old place among jobs of its priority."""
    service = JobService(session)
    service.resume(caller.project_id, id)
    return _shown(service, caller.project_id, id)


@router.post(
    "/{id}/retry",
    status_code=201,
    summary="Retry a job",
    response_model=JobOut,
    openapi_extra=RETRY_BODY,
    responses=problems(
        *(JobNotFound, JobNotFinal, NoCheckpoint, InvalidSpec, NotJson, TooLarge, NotAsJson),
        *(RequestInProgress, IdempotencyKeyReused),
    ),
)
def retry_job(
    id: str,
    caller: CallerDep,
    session: SessionDep,
    once: OnceDep,
    body: OptionalBodyDep,
    raw: Annotated[object, Depends(read_optional_json)],
) -> Response:
    """Post a new job by the spec of one that has ended; `retry_of` names that one.

    Without a body it is the same job from step 0. With `from: last_checkpoint` it goes on with the state that the old
    job has saved last; a change after which that could not be loaded is refused. The spec is checked again: a dataset
    or model may be gone."""
    asked, service = parsed(RetryJob, raw), JobService(session)
    from_checkpoint = asked.from_ == "last_checkpoint"
    return once.answer(
        lambda: _posted(service, service.retry(caller.project_id, id, asked.changes, from_checkpoint=from_checkpoint)),
        body,
    )


@router.delete(
    "/{id}", status_code=204, summary="Delete a job", responses=problems(JobNotFound, JobNotFinal, CheckpointInUse)
)
def delete_job(id: str, caller: CallerDep, session: SessionDep) -> None:
    """Remove a final job with its events, metrics, checkpoints, artifacts and adapter. There is no way back."""
    JobService(session).delete(caller.project_id, id)


@router.head("/{id}/logs", include_in_schema=False, response_class=PlainTextResponse)
@router.get(
    "/{id}/logs", summary="The training process's own words", response_class=PlainTextResponse,
    responses=problems(JobNotFound),
)  # fmt: skip
def get_logs(id: str, caller: CallerDep, session: SessionDep) -> str:
    """The tail (up to 64 KiB) of what the latest attempt's process printed; brought up to date every few seconds."""
    return JobService(session).log_tail(caller.project_id, id)


def _posted(service: JobService, job: Job) -> Created:
    return Created(f"/jobs/{job.id}", JobOut.of(job, waiting_for=service.waiting_for(job)))


def _shown(service: JobService, project_id: str, id: str) -> JobOut:
    job = service.get(project_id, id)
    return JobOut.of(job, service.details(project_id, [job]).get(id, NO_DETAILS), service.waiting_for(job))
