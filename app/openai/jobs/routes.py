"""Serves `/fine_tuning/jobs` to OpenAI's client: create, list, get, cancel, pause and resume."""

import hashlib
import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import ValidationError
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from app.datasets.service import DatasetService
from app.db.tables import Job
from app.domain.caller import Caller
from app.domain.cursor import Cursor
from app.domain.jobs.spec import LEARNING_RATES, JobSpec
from app.errors import (
    FieldError,
    InvalidJson,
    InvalidSpec,
    JobAlreadyCancelling,
    JobAlreadyPaused,
    JobFinished,
    JobNotFound,
    JobNotPaused,
    TooLarge,
)
from app.errors import UnsupportedMediaType as NotAsJson
from app.jobs.read_routes import MetadataQuery, metadata_of
from app.jobs.repository import JobFilter
from app.jobs.service import JobService
from app.jobs.shown import find_shown
from app.jobs.spec_validation import field_errors
from app.openai.base_schema import json_of
from app.openai.envelope import refusals
from app.openai.jobs.create_repository import find_created, keep_created
from app.openai.jobs.repository import ShownFineTune, find_fine_tune, list_fine_tunes
from app.openai.jobs.schemas import FineTuningJob, FineTuningJobList, shown
from app.openai.jobs.spec import CreateJob, locate_in_body, remove_duplicates, spec_of
from app.web.auth import CallerDep
from app.web.bodies.json_body import BodyDep, read_json
from app.web.conditional import IF_NONE_MATCH, NOT_MODIFIED, conditional
from app.web.dependencies import SessionDep, reads_of

router = APIRouter(prefix="/fine_tuning/jobs", tags=["fine-tuning"])

LimitDep = Annotated[int, Query(ge=1, le=1000)]
AfterDep = Annotated[str | None, Query(max_length=200, description="Id of the last job of the previous page.")]


async def get_arrival() -> float:
    return time.monotonic()


@router.post(
    "",
    summary="Create a fine-tuning job",
    openapi_extra=json_of(CreateJob),
    responses=refusals(InvalidSpec, InvalidJson, TooLarge, NotAsJson),
)
def create_fine_tuning_job(
    arrived_at: Annotated[float, Depends(get_arrival)],
    caller: CallerDep,
    session: SessionDep,
    body: BodyDep,
    raw: Annotated[object, Depends(read_json)],
    x_stainless_retry_count: Annotated[
        str | None,
        Header(
            max_length=20,
            description="Set by OpenAI's client. A retry that equals a request of the last 30 minutes by the same API "
            "key returns the job of that request.",
        ),
    ] = None,
) -> FineTuningJob:
    """Create a job and queue it. `auto` hyperparameters are resolved immediately and returned. `tunewright` accepts any
    other field of a JobSpec."""
    count = x_stainless_retry_count or "0"
    retries = int(count) if count.isdecimal() else 0
    sha256 = hashlib.sha256(f"{caller.key_id}\n".encode() + body).hexdigest()
    found = find_created(session, caller.project_id, sha256, retries, time.monotonic() - arrived_at)
    if found is not None:
        return _find_shown_job(session, caller.project_id, found)
    job = _submit_job(session, caller, _parse_body(raw))
    keep_created(session, caller.project_id, sha256, job.id, sent_again=retries > 0)
    return _find_shown_job(session, caller.project_id, job.id)


@router.get(
    "",
    summary="List fine-tuning jobs",
    response_model=FineTuningJobList,
    openapi_extra=IF_NONE_MATCH,
    responses=refusals() | NOT_MODIFIED,
)
def list_fine_tuning_jobs(
    request: Request,
    caller: CallerDep,
    after: AfterDep = None,
    limit: LimitDep = 20,
    metadata: Annotated[Literal["null"] | None, Query(description="`null`: only jobs without metadata.")] = None,
    any_metadata: MetadataQuery = None,
) -> Response:
    """List the project's jobs, newest first. Filter by metadata with `metadata[key]=value`, which may be repeated;
    `metadata=null` lists jobs without metadata."""
    wanted = JobFilter(metadata=metadata_of(request), without_metadata=metadata == "null")

    def ask(connection: Connection) -> Sequence[ShownFineTune]:
        place = _find_place(connection, caller.project_id, after) if after is not None else None
        return list_fine_tunes(connection, caller.project_id, wanted, limit, place)

    found = reads_of(request).ask(ask)
    listed = FineTuningJobList(data=[shown(job) for job in found[:limit]], has_more=len(found) > limit)
    return conditional(request, listed.model_dump_json().encode())


@router.get(
    "/{fine_tuning_job_id}",
    summary="Retrieve a fine-tuning job",
    response_model=FineTuningJob,
    openapi_extra=IF_NONE_MATCH,
    responses=refusals(JobNotFound) | NOT_MODIFIED,
)
def retrieve_fine_tuning_job(request: Request, fine_tuning_job_id: str, caller: CallerDep) -> Response:
    """Get a job's state and results."""
    found = reads_of(request).ask(lambda connection: find_fine_tune(connection, caller.project_id, fine_tuning_job_id))
    return conditional(request, shown(found).model_dump_json().encode())


@router.post(
    "/{fine_tuning_job_id}/cancel",
    summary="Cancel a fine-tuning job",
    responses=refusals(JobNotFound, JobFinished, JobAlreadyCancelling),
)
def cancel_fine_tuning_job(fine_tuning_job_id: str, caller: CallerDep, session: SessionDep) -> FineTuningJob:
    """Cancel a job. It is `cancelled` immediately; a running job's process ends shortly after."""
    JobService(session).cancel(caller.project_id, fine_tuning_job_id)
    return _find_shown_job(session, caller.project_id, fine_tuning_job_id)


@router.post(
    "/{fine_tuning_job_id}/pause",
    summary="Pause a fine-tuning job",
    responses=refusals(JobNotFound, JobFinished, JobAlreadyCancelling, JobAlreadyPaused),
)
def pause_fine_tuning_job(fine_tuning_job_id: str, caller: CallerDep, session: SessionDep) -> FineTuningJob:
    """Pause a job. A running job is `pausing` until its checkpoint is stored."""
    JobService(session).pause(caller.project_id, fine_tuning_job_id)
    return _find_shown_job(session, caller.project_id, fine_tuning_job_id)


@router.post(
    "/{fine_tuning_job_id}/resume",
    summary="Resume a fine-tuning job",
    responses=refusals(JobNotFound, JobFinished, JobAlreadyCancelling, JobNotPaused),
)
def resume_fine_tuning_job(fine_tuning_job_id: str, caller: CallerDep, session: SessionDep) -> FineTuningJob:
    """Resume a job. It is queued again and continues from its last checkpoint."""
    JobService(session).resume(caller.project_id, fine_tuning_job_id)
    return _find_shown_job(session, caller.project_id, fine_tuning_job_id)


def _find_place(connection: Connection, project_id: str, after: str) -> Cursor:
    try:
        last = find_shown(connection, project_id, after).job
    except JobNotFound as error:
        raise InvalidSpec([FieldError("/after", error.code, str(error))]) from error
    return Cursor(last.created_at, last.id)


def _parse_body(raw: object) -> CreateJob:
    if not isinstance(raw, dict):
        raise InvalidSpec([FieldError("", "wrong_type", "The body is not a JSON object.")])
    try:
        return CreateJob.model_validate(raw)
    except ValidationError as error:
        raise InvalidSpec(remove_duplicates(field_errors(error, CreateJob, {"tunewright": JobSpec}))) from error


def _submit_job(session: Session, caller: Caller, body: CreateJob) -> Job:
    dataset = DatasetService(session).find(caller.project_id, body.training_file)
    spec, errors = spec_of(body, dataset.size if dataset else 0, secrets.randbelow(2**31), _base_rate(body))
    if errors:
        raise InvalidSpec(errors)
    try:
        return JobService(session).submit(caller.project_id, spec, caller.key_id)
    except InvalidSpec as error:
        raise InvalidSpec(remove_duplicates(locate_in_body(list(error.errors), body))) from error


def _base_rate(body: CreateJob) -> float:
    """Return the base rate; any value if the spec will be refused for its objective or method."""
    objective = "dpo" if body.type == "dpo" else body.tunewright.get("objective", "sft")
    method = body.tunewright.get("method", "qlora")
    rates = {
        (objective, method): rate
        for objective, by_method in LEARNING_RATES.items()
        for method, rate in by_method.items()
    }
    return next((rate for key, rate in rates.items() if key == (objective, method)), 1.0)


def _find_shown_job(session: Session, project_id: str, id: str) -> FineTuningJob:
    session.flush()
    return shown(find_fine_tune(session.connection(), project_id, id))
