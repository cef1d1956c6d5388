"""Explains why a queued job waits, and computes its position in the queue."""

from typing import NamedTuple

from sqlalchemy import Connection

from app.db.tables import Job
from app.jobs.queue.repository import has_stopped_waiting_for_exact_resume
from app.jobs.shown import Standing
from app.settings import get_settings
from app.workers.reasons import NO_DISK_SPACE, NOT_ONE, ONLY_DRAINING_GPUS, describe_shortage
from app.workers.service import has_machine

EXACTLY = "a worker on which its checkpoint resumes exactly"
PASSING = (None, NOT_ONE, NO_DISK_SPACE, ONLY_DRAINING_GPUS)


class Waiting(NamedTuple):
    """Explains a wait. `position` counts from 1, over all projects, in the order of the claim; `reason` is a
    short phrase."""

    position: int
    reason: str


def waiting(connection: Connection, job: Job, standing: Standing) -> Waiting:
    """Return what must change first before a queued job starts; its turn only if nothing else prevents it."""
    shortage = describe_shortage(job, standing.placements)
    if job.lease_until is not None:
        reason = "its last attempt is still saving a checkpoint"
    elif not standing.is_inspected:
        # An inspection ends without help; a shortage of workers does not.
        reason = "its dataset is being inspected" + (f"; {shortage}" if shortage not in PASSING else "")
    elif shortage:
        reason = shortage
    elif exact := exact_resume(connection, job):
        reason = exact
    elif (limit := standing.reached_limit) is not None:
        reason = f"the project's limit of {limit} running job{'s' * (limit != 1)} is reached"
    else:
        reason = f"{ordinal(standing.position)} in queue"
    return Waiting(standing.position, reason)


def exact_resume(connection: Connection, job: Job) -> str | None:
    """Explain that it waits for a worker on which its checkpoint resumes exactly, and how long at most."""
    if job.resume_machine is None:
        return None
    if job.spec["training"]["on_inexact_resume"] == "wait":
        is_online = has_machine(connection, job.resume_machine)
        return None if is_online else f"{EXACTLY}; none is online"
    wait_seconds = get_settings().exact_resume_wait_seconds
    is_over = has_stopped_waiting_for_exact_resume(connection, job.project_id, job.id, wait_seconds)
    return None if is_over else f"{EXACTLY} (up to {wait_seconds:g} s)"


def ordinal(number: int) -> str:
    teen = number % 100 in (11, 12, 13)
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{'th' if teen else ending}"
