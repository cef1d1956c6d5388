"""Who works here: workers register, give signs of life whether busy or idle, and leave."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy.orm import Session

from app.domain.machine import Machine
from app.workers.repository import ShownWorker, WorkerRepository

UNSEEN_SECONDS = 24 * 3600.0
"""A worker silent for so long is listed no more."""

NOT_ONE = "no worker online"
WITHOUT_ROOM = "no worker online with room on its disk"
WITH_DEVICE = {"auto": "", "cuda": " with a CUDA device", "cpu": " that trains on its CPU"}
WITH_MEMORY_ON = {"auto": "", "cuda": " on a CUDA device", "cpu": " that trains on its CPU"}


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
        lease: float,
    ) -> None:
        """`lease` is how many seconds it is taken for online without another sign."""
        told = machine, versions, queues, integrations
        self.workers.register(*told, draining=draining, disk_full=disk_full, lease=lease)

    def sign(self, id: str, *, draining: bool, disk_full: bool, lease: float) -> bool:
        """A sign of life; False if the worker must register (again)."""
        return self.workers.sign(id, draining=draining, disk_full=disk_full, lease=lease)

    def leave(self, id: str) -> None:
        self.workers.remove(id)

    def forget_unseen(self) -> Sequence[str]:
        """Remove those that have been silent for a day; their ids."""
        return self.workers.remove_unseen(UNSEEN_SECONDS)

    def all(self) -> Sequence[ShownWorker]:
        return self.workers.all()

    def shortage(self, device: str, min_memory_gb: float) -> str | None:
        """What keeps every worker from a job that needs this, in a few words; None where one that takes jobs fits."""
        workers = self.workers.taking_jobs()
        of_device = [worker for worker in workers if device in ("auto", worker.device)]
        fitting = [worker for worker in of_device if worker.memory_gb >= min_memory_gb]
        if not of_device:
            return NOT_ONE + (WITH_DEVICE[device] if workers else "")
        if not fitting:
            return f"{NOT_ONE} with {min_memory_gb:g} GB{WITH_MEMORY_ON[device]}"
        return WITHOUT_ROOM if all(worker.disk_full for worker in fitting) else None

    def integrations(self) -> set[str] | None:
        """What those that take jobs serve; None where none is online, since one may come that serves anything."""
        workers = self.workers.taking_jobs()
        return {type for worker in workers for type in worker.integrations} if workers else None
