"""What dead workers have left on this machine: metric points that Postgres does not have yet, and folders."""

import shutil
from pathlib import Path

import structlog
from sqlalchemy.exc import DBAPIError

from app.db.session import Sessions, is_outage, transaction
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.set_aside import fault_of
from worker.attempt.metrics.spool import Spool
from worker.host.work_folders import abandoned

log = structlog.get_logger()


def clear_leftovers(sessions: Sessions, work: Path) -> None:
    """Store the points that prove whose they are, and remove the folders. DBAPIError if Postgres is away."""
    for folder in abandoned(work):
        spool = Spool.find_abandoned(folder)
        if spool is not None:
            try:
                store(sessions, spool, owner(folder), Spool.read_proof(folder))
            except Exception as error:
                if isinstance(error, DBAPIError) and is_outage(error):
                    raise
                # It holds up no other folder, and no job.
                log.error("points of a dead attempt cannot be stored", folder=str(folder), **fault_of(error))
            finally:
                spool.close()
        log.info("removing what a dead attempt left", job=folder.parent.name, attempt=folder.name)
        shutil.rmtree(folder, ignore_errors=True)


def owner(folder: Path) -> Claim:
    """The attempt that a folder is named after, which proves nothing."""
    *_, project_id, job_id, number = folder.parts
    return Claim(project_id, job_id, int(number), token="")


def store(sessions: Sessions, spool: Spool, claim: Claim, proof: str) -> None:
    """Nothing of a spool without the proof: anybody of this user can write a folder by that name."""
    while not spool.is_empty:
        batch = spool.peek()
        with transaction(sessions, "record_late") as session:
            is_its_own = AttemptService(session, claim).record_late(batch.points, proof)
        if not is_its_own:
            log.warning("points that prove no attempt of theirs are dropped", job=claim.job_id, attempt=claim.attempt)
            return
        spool.drop(batch)
        log.info("stored a dead worker's points", job=claim.job_id, attempt=claim.attempt, count=len(batch.points))
