"""Serves a job's events and checkpoints to OpenAI's client, and refuses what is not supported."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.errors import FieldError, InvalidSpec, JobNotFound
from app.jobs.checkpoints.repository import CheckpointRepository
from app.jobs.events.history import History
from app.jobs.metrics.repository import MetricRepository
from app.jobs.service import JobService
from app.openai.envelope import refusals
from app.openai.jobs.progress_schemas import (
    FineTuningJobCheckpoint,
    FineTuningJobCheckpointList,
    FineTuningJobEvent,
    FineTuningJobEventList,
    place_of,
)
from app.openai.jobs.spec import OFFERED
from app.web.auth import CallerDep
from app.web.dependencies import SessionDep

router = APIRouter(prefix="/fine_tuning", tags=["fine-tuning"])


@router.get("/jobs/{fine_tuning_job_id}/events", summary="List a job's events", responses=refusals(JobNotFound))
def list_fine_tuning_events(
    fine_tuning_job_id: str,
    caller: CallerDep,
    session: SessionDep,
    after: Annotated[
        str | None, Query(max_length=200, description="Id of the last event of the previous page.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> FineTuningJobEventList:
    """List a job's events (`message`) and metrics (`metrics`), newest first."""
    job = JobService(session).get(caller.project_id, fine_tuning_job_id)
    place = place_of(job.id, after) if after is not None else None
    found = None
    if after is None or place is not None:
        found = History(session, caller.project_id, job.id).before(place, limit + 1)
    if found is None:
        raise InvalidSpec([FieldError("/after", "event_not_found", f"Job {job.id} has no event {after!r:.120}.")])
    return FineTuningJobEventList(
        data=[FineTuningJobEvent.of(job, each) for each in found[:limit]], has_more=len(found) > limit
    )


@router.get(
    "/jobs/{fine_tuning_job_id}/checkpoints", summary="List a job's checkpoints", responses=refusals(JobNotFound)
)
def list_fine_tuning_checkpoints(
    fine_tuning_job_id: str,
    caller: CallerDep,
    session: SessionDep,
    after: Annotated[
        str | None, Query(max_length=200, description="Id of the last checkpoint of the previous page.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 10,
) -> FineTuningJobCheckpointList:
    """List the stored checkpoints, highest step first."""
    job = JobService(session).get(caller.project_id, fine_tuning_job_id)
    stored = list(CheckpointRepository(session).of_job(caller.project_id, job.id))
    if after is not None:
        ids = [each.id for each in stored]
        if after not in ids:
            message = f"Job {job.id} has no checkpoint {after!r:.120}; it may have been deleted."
            raise InvalidSpec([FieldError("/after", "checkpoint_not_found", message)])
        stored = stored[ids.index(after) + 1 :]
    page = stored[:limit]
    points = MetricRepository(session).at(caller.project_id, job.id, [each.step for each in page])
    values = {step: point.values for step, point in points.items()}
    return FineTuningJobCheckpointList(
        data=[FineTuningJobCheckpoint.of(job, each, values.get(each.step, {})) for each in page],
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
        has_more=len(stored) > limit,
    )


@router.post("/alpha/graders/run", summary="Run a grader (not supported)", responses=refusals(InvalidSpec))
def run_grader(caller: CallerDep) -> None:
    """Refuse the request: graders belong to reinforcement fine-tuning, which this server does not support."""
    raise _unsupported_grader()


@router.post("/alpha/graders/validate", summary="Validate a grader (not supported)", responses=refusals(InvalidSpec))
def validate_grader(caller: CallerDep) -> None:
    """Refuse the request: graders belong to reinforcement fine-tuning, which this server does not support."""
    raise _unsupported_grader()


def _unsupported_grader() -> InvalidSpec:
    message = f"Graders belong to the method reinforcement, which is not supported. {OFFERED}"
    return InvalidSpec([FieldError("/grader", "unsupported_method", message)])
