"""Keeps track of the workers: they register, send heartbeats whether busy or idle, and leave."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from app.domain.hardware import WorkerHardware
from app.errors import JobNotFound
from app.workers.reasons import Reason, explain
from app.workers.repository import ShownWorker, WorkerRepository, find_placements, is_machine_online

UNSEEN_SECONDS = 24 * 3600.0
"""Sets the silence after which a worker is no longer listed."""


class WorkerService:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.workers = WorkerRepository(session)

    def register(
        self,
        machine: WorkerHardware,
        versions: Mapping[str, str],
        queues: Collection[str],
        integrations: Collection[str] = (),
        *,
        draining: bool,
        disk_full: bool,
        free_memory_gb: float | None = None,
        lease: float,
    ) -> None:
        """Register the worker. `lease` is how many seconds it counts as online without a heartbeat."""
        self.workers.register(
            machine,
            versions,
            queues,
            integrations,
            draining=draining,
            disk_full=disk_full,
            free_memory_gb=free_memory_gb,
            lease=lease,
        )

    def sign(
        self, id: str, *, draining: bool, disk_full: bool, free_memory_gb: float | None = None, lease: float
    ) -> bool:
        """Record a heartbeat; return False if the worker must register (again)."""
        return self.workers.sign(id, draining=draining, disk_full=disk_full, free_memory_gb=free_memory_gb, lease=lease)

    def leave(self, id: str) -> None:
        self.workers.remove(id)

    def forget_unseen(self) -> Sequence[str]:
        """Remove the workers that have been silent for a day, and return their ids."""
        return self.workers.remove_unseen(UNSEEN_SECONDS)

    def all(self, project_id: str) -> Sequence[ShownWorker]:
        return self.workers.all(project_id)

    def explain(self, project_id: str, job_id: str) -> Mapping[str, Sequence[Reason]]:
        """Return, by worker id, why each worker cannot claim the job now; raise JobNotFound if the project has no such
        job."""
        found = self.workers.find_job(project_id, job_id)
        if found is None:
            raise JobNotFound(job_id)
        found_placements = find_placements(self.session.connection(), project_id, job_id)
        placements = {each.worker_id: each for each in found_placements}
        shown = {each.worker.id: each for each in self.all(project_id)}
        return {id: explain(found[0], shown[id], placements[id]) for id in shown.keys() & placements.keys()}

    def integrations(self) -> set[str] | None:
        """Return the integrations of the workers that take jobs; None if none is online, because any integration may
        come with the next one."""
        workers = self.workers.taking_jobs()
        return {type for worker in workers for type in worker.integrations} if workers else None


def has_machine(connection: Connection, fingerprint: str) -> bool:
    """Return whether a worker that takes jobs has this fingerprint."""
    return is_machine_online(connection, fingerprint)
