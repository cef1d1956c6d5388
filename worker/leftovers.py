"""What dead workers have left on this machine: metric points that Postgres does not have yet, and folders."""

import shutil
from pathlib import Path

import structlog

from app.db.session import Sessions, transaction
from app.jobs.attempts import AttemptService
from app.jobs.queue import Claim
from worker.folders import abandoned
from worker.spool import Spool

log = structlog.get_logger()


def clear_leftovers(sessions: Sessions, work: Path) -> None:
    """Store the points, each as its own attempt's, and remove the folders. DBAPIError if Postgres is away."""
    for folder in abandoned(work):
        spool = Spool.find_abandoned(folder)
        if spool is not None:
            try:
                store(sessions, spool, owner(folder))
            finally:
                spool.close()
        log.info("removing what a dead attempt left", job=folder.parent.name, attempt=folder.name)
        shutil.rmtree(folder, ignore_errors=True)


def owner(folder: Path) -> Claim:
    """The attempt of a folder. It proves nothing, and whoever runs the job now is not disturbed."""
    *_, project_id, job_id, number = folder.parts
    return Claim(project_id, job_id, int(number), token="")


def store(sessions: Sessions, spool: Spool, claim: Claim) -> None:
    while not spool.is_empty:
        batch = spool.peek()
        with transaction(sessions, "record_late") as session:
            AttemptService(session, claim).record_late(batch.points)
        spool.drop(batch)
        log.info("stored a dead worker's points", job=claim.job_id, attempt=claim.attempt, count=len(batch.points))
