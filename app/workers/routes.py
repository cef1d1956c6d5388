"""`/workers`: the machines that work for this server's projects."""

from fastapi import APIRouter

from app.web.auth import CallerDep
from app.web.dependencies import SessionDep
from app.web.problems import problems
from app.workers.schemas import WorkerList, WorkerOut
from app.workers.service import WorkerService

router = APIRouter(prefix="/workers", tags=["workers"])


@router.get("", summary="List workers", responses=problems())
def list_workers(caller: CallerDep, session: SessionDep) -> WorkerList:
    """Every worker seen within a day, with its device and whether it is online, draining, busy or out
    of disk.

    Workers serve all projects, so every key sees them all, but not which jobs they run."""
    return WorkerList(items=[WorkerOut.of(shown) for shown in WorkerService(session).all()])
