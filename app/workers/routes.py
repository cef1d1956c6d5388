"""Serves `/workers`: the machines that work for this server's projects."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.errors import JobNotFound
from app.web.auth import CallerDep
from app.web.dependencies import SessionDep
from app.web.problems import problems
from app.workers.schemas import WorkerList, WorkerOut
from app.workers.service import WorkerService

router = APIRouter(prefix="/workers", tags=["workers"])


@router.get("", summary="List workers", responses=problems(JobNotFound))
def list_workers(
    caller: CallerDep,
    session: SessionDep,
    job: Annotated[str | None, Query(max_length=100, description="Show why each worker cannot claim this job.")] = None,
) -> WorkerList:
    """List every worker seen within a day, with its device, its labels and whether it is online, draining, busy or out
    of disk space. With `job`, also show whether each could claim that job now, and why not.

    Workers serve all projects, so every key sees all of them, but `job_id` only if the job belongs to its project.
    """
    service = WorkerService(session)
    reasons = service.explain(caller.project_id, job) if job is not None else {}
    return WorkerList(
        items=[WorkerOut.of(shown, reasons.get(shown.worker.id)) for shown in service.all(caller.project_id)]
    )
