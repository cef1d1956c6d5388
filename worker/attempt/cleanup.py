"""Cleans up after dead workers on this machine: stores metric points that PostgreSQL lacks, and removes work
folders."""

import shutil
from pathlib import Path

import structlog
from sqlalchemy.exc import DBAPIError

from app.db.session import Sessions, is_outage, transaction
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.set_aside import fault_of
from worker.attempt.metrics.spool import Spool
from worker.host.work_folders import find_abandoned_attempts

log = structlog.get_logger()


def clear_leftovers(sessions: Sessions, work: Path) -> None:
    """Store the points of abandoned folders that have a valid proof, then remove the folders.

    Raises DBAPIError if PostgreSQL is unreachable."""
    for folder in find_abandoned_attempts(work):
        spool = Spool.find_abandoned(folder)
        if spool is not None:
            try:
                store_points(sessions, spool, claim_of(folder), Spool.read_proof(folder))
            except Exception as error:
                if isinstance(error, DBAPIError) and is_outage(error):
                    raise
                # An error here must not block other folders or jobs.
                log.error("could not store the metric points of a dead attempt", folder=str(folder), **fault_of(error))
            finally:
                spool.close()
        log.info("removing the folder of a dead attempt", job=folder.parent.name, attempt=folder.name)
        shutil.rmtree(folder, ignore_errors=True)


def claim_of(folder: Path) -> Claim:
    """Return the attempt that the folder's path names. The path alone does not prove ownership."""
    *_, project_id, job_id, number = folder.parts
    return Claim(project_id, job_id, int(number), token="")


def store_points(sessions: Sessions, spool: Spool, claim: Claim, proof: str) -> None:
    """Store the spool's points if the proof is valid. Any process of this user can create a folder with that name, so
    the points are dropped without one."""
    while not spool.is_empty:
        batch = spool.peek()
        with transaction(sessions, "record_late") as session:
            is_its_own = AttemptService(session, claim).record_late(batch.points, proof)
        if not is_its_own:
            log.warning(
                "dropped metric points without a valid proof of their attempt", job=claim.job_id, attempt=claim.attempt
            )
            return
        spool.drop(batch)
        log.info(
            "stored the metric points of a dead worker",
            job=claim.job_id,
            attempt=claim.attempt,
            count=len(batch.points),
        )
