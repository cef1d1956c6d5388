"""Who works here: workers register, give signs of life whether busy or idle, and leave."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy.orm import Session

from app.db.tables import Job
from app.domain.machine import Machine
from app.errors import JobNotFound
from app.workers.reasons import Reason, describe_shortage, explain
from app.workers.repository import ShownWorker, WorkerRepository

UNSEEN_SECONDS = 24 * 3600.0
"""A worker silent for so long is listed no more."""


class WorkerService:
    def __init__(self, session: Session) -> None:
        self.workers = WorkerRepository(session)

    def register(
        self,
        machine: Machine,
        versions: Mapping[str, str],
        queues: Collection[str],
        integrations: Collection[str] = (),
        *,
        draining: bool,
        disk_full: bool,
        free_memory_gb: float | None = None,
        lease: float,
    ) -> None:
        """`lease` is how many seconds it is taken for online without another sign."""
        told = machine, versions, queues, integrations
        self.workers.register(*told, draining=draining, disk_full=disk_full, free_memory_gb=free_memory_gb, lease=lease)

    def sign(
        self, id: str, *, draining: bool, disk_full: bool, free_memory_gb: float | None = None, lease: float
    ) -> bool:
        """A sign of life; False if the worker must register (again)."""
        return self.workers.sign(id, draining=draining, disk_full=disk_full, free_memory_gb=free_memory_gb, lease=lease)

    def leave(self, id: str) -> None:
        self.workers.remove(id)

    def forget_unseen(self) -> Sequence[str]:
        """Remove those that have been silent for a day; their ids."""
        return self.workers.remove_unseen(UNSEEN_SECONDS)

    def all(self) -> Sequence[ShownWorker]:
        return self.workers.all()

    def shortage(self, job: Job) -> str | None:
        """What keeps every worker from a job, in a few words; None where one that takes jobs fits."""
        return describe_shortage(job, self.workers.placements(job, taking_jobs=True))

    def explain(self, project_id: str, job_id: str) -> Mapping[str, Sequence[Reason]]:
        """Why each worker would not take up the job now, by its id; JobNotFound if the project has no such job."""
        found = self.workers.find_job(project_id, job_id)
        if found is None:
            raise JobNotFound(job_id)
        placements = {each.worker_id: each for each in self.workers.placements(found[0], taking_jobs=False)}
        shown = {each.worker.id: each for each in self.all()}
        return {id: explain(found[0], shown[id], placements[id]) for id in shown.keys() & placements.keys()}

    def has_machine(self, fingerprint: str) -> bool:
        """Whether one that takes jobs has this fingerprint."""
        return any(worker.machine_fingerprint == fingerprint for worker in self.workers.taking_jobs())

    def integrations(self) -> set[str] | None:
        """What those that take jobs serve; None where none is online, since one may come that serves anything."""
        workers = self.workers.taking_jobs()
        return {type for worker in workers for type in worker.integrations} if workers else None
