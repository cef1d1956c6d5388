"""Serves `/queues`: how much work waits."""

from fastapi import APIRouter

from app.queues.repository import QueueLengthRepository
from app.queues.schemas import Queues
from app.web.auth import CallerDep
from app.web.dependencies import SessionDep
from app.web.problems import problems

router = APIRouter(prefix="/queues", tags=["workers"])


@router.get("", summary="Get queue lengths", responses=problems())
def get_queues(caller: CallerDep, session: SessionDep) -> Queues:
    """Get the number of queued and running jobs, the work that waits for light workers, and whether the dispatcher
    keeps up.

    Workers serve all projects, so the numbers cover all projects.
    """
    return Queues.of(QueueLengthRepository(session).measure())
