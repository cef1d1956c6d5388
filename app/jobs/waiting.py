"""Why a queued job waits, and where in the queue it stands."""

from typing import NamedTuple

from sqlalchemy.orm import Session

from app.datasets.service import DatasetService
from app.db.tables import Job
from app.jobs.queue import QueueRepository
from app.settings import get_settings
from app.workers.reasons import NOT_ONE, ONLY_DRAINING_GPUS, WITHOUT_ROOM
from app.workers.service import WorkerService

EXACTLY = "a worker on which its checkpoint resumes exactly"
PASSING = (None, NOT_ONE, WITHOUT_ROOM, ONLY_DRAINING_GPUS)


class Waiting(NamedTuple):
    """`position` counts from 1, over all projects, in the order of the claim; `reason` is a few words."""

    position: int
    reason: str


def waiting(session: Session, job: Job) -> Waiting:
    """What must change first for a queued job to start; its turn only when nothing else is in its way."""
    queue = QueueRepository(session)
    position = queue.position(job)
    shortage = WorkerService(session).shortage(job)
    if job.lease_until is not None:
        reason = "its last attempt still writes a checkpoint"
    elif not DatasetService(session).uses_are_ready(job.project_id, job.id):
        # That passes; what no worker here has does not.
        reason = "its dataset is being inspected" + (f"; {shortage}" if shortage not in PASSING else "")
    elif shortage:
        reason = shortage
    elif exact := exact_resume(session, job):
        reason = exact
    elif (limit := queue.reached_limit(job.project_id)) is not None:
        reason = f"the project's limit of {limit} running job{'s' * (limit != 1)} is reached"
    else:
        reason = f"{ordinal(position)} in queue"
    return Waiting(position, reason)


def exact_resume(session: Session, job: Job) -> str | None:
    """That it waits for a worker on which its checkpoint resumes exactly, and how long at most."""
    if job.resume_machine is None:
        return None
    if job.spec["training"].get("on_inexact_resume") == "wait":
        is_online = WorkerService(session).has_machine(job.resume_machine)
        return None if is_online else f"{EXACTLY}, and none is online"
    wait_seconds = get_settings().exact_resume_wait_seconds
    is_over = QueueRepository(session).has_waited_for_exact_resume(job, wait_seconds)
    return None if is_over else f"{EXACTLY} (up to {wait_seconds:g} s)"


def ordinal(number: int) -> str:
    teen = number % 100 in (11, 12, 13)
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{'th' if teen else ending}"
