"""Stores workers as of their last heartbeat. All times are by the database's clock."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from app.db.tables import Dataset, DatasetCheck, Job, Project, Upload, Worker
from app.domain.hardware import WorkerHardware
from app.workers.placement import conditions, registered
from app.workers.presence import is_online

MOST_SHOWN = 1000


class ShownWorker(NamedTuple):
    worker: Worker
    online: bool
    busy: bool
    job_id: str | None
    """Is the job that it holds, if that job belongs to the project that asks."""


class Placement(NamedTuple):
    """Describes how a worker matches a job; `unmet` names the failing `conditions`, in their order."""

    worker_id: str
    disk_full: bool
    allowed_labels: Mapping[str, Sequence[str]]
    unmet: Sequence[str]


class WorkerRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def register(
        self,
        machine: WorkerHardware,
        versions: Mapping[str, str],
        queues: Collection[str],
        integrations: Collection[str],
        *,
        draining: bool,
        disk_full: bool,
        free_memory_gb: float | None,
        lease: float,
    ) -> None:
        """Register the worker. Replaces an earlier worker with the same id: a container's processes have the same id
        after a restart."""
        row = {
            "device": machine.device,
            "device_name": machine.device_name,
            "num_gpus": machine.num_gpus,
            "memory_gb": machine.memory_gb,
            "free_memory_gb": free_memory_gb,
            "labels": dict(machine.labels),
            "machine_fingerprint": machine.fingerprint,
            "machine_facts": dict(machine.facts),
            "versions": dict(versions),
            "queues": sorted(queues),
            "integrations": sorted(integrations),
            "draining": draining,
            "disk_full": disk_full,
            "started_at": func.clock_timestamp(),
            "seen_at": func.clock_timestamp(),
            "online_until": lease_end(lease),
        }
        statement = insert(Worker).values(row | {"id": machine.worker_id})
        self.session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=row))

    def sign(self, id: str, *, draining: bool, disk_full: bool, free_memory_gb: float | None, lease: float) -> bool:
        """Record a heartbeat; return False if the worker is not registered."""
        signed = update(Worker).where(Worker.id == id).returning(Worker.id)
        times = {"seen_at": func.clock_timestamp(), "online_until": lease_end(lease)}
        values = times | {"draining": draining, "disk_full": disk_full, "free_memory_gb": free_memory_gb}
        return self.session.scalars(signed.values(values)).one_or_none() is not None

    def remove(self, id: str) -> None:
        self.session.execute(delete(Worker).where(Worker.id == id))

    def remove_unseen(self, seconds: float) -> Sequence[str]:
        """Remove the workers without a heartbeat for this many seconds, and return their ids."""
        unseen = Worker.seen_at < func.clock_timestamp() - timedelta(seconds=seconds)
        return self.session.scalars(delete(Worker).where(unseen).returning(Worker.id)).all()

    def all(self, project_id: str) -> Sequence[ShownWorker]:
        """Return all workers, online ones first, ordered by id. What they hold of other projects is shown only as busy
        or not."""
        held = Job.worker_id == Worker.id, Job.lease_until.is_not(None)
        own = select(func.max(Job.id)).where(*held, Job.project_id == project_id).scalar_subquery()
        busy = or_(
            exists().where(*held),
            exists().where(Dataset.worker_id == Worker.id, Dataset.inspecting_until.is_not(None)),
            exists().where(Upload.worker_id == Worker.id, Upload.joining_until.is_not(None)),
            exists().where(DatasetCheck.worker_id == Worker.id, DatasetCheck.leased_until.is_not(None)),
        )
        query = select(Worker, is_online(), busy, own).order_by(is_online().desc(), Worker.id).limit(MOST_SHOWN)
        return [ShownWorker(*row) for row in self.session.execute(query)]

    def find_job(self, project_id: str, id: str) -> tuple[Job, dict[str, Sequence[str]]] | None:
        """Find a job with the labels that its project may use."""
        query = select(Job, Project.allowed_labels).join(Project, Project.id == Job.project_id)
        row = self.session.execute(query.where(Job.project_id == project_id, Job.id == id)).one_or_none()
        return (row[0], row[1]) if row else None

    def taking_jobs(self) -> Sequence[Worker]:
        """Return the workers that are online and claim jobs, or would if their disk were not full."""
        query = select(Worker).where(*takes_jobs())
        return self.session.scalars(query).all()


def find_placements(connection: Connection, project_id: str, job_id: str) -> Sequence[Placement]:
    """Return how all registered workers match a job; empty if the project has no such job."""
    query = select(placements(taking_jobs=False)).where(Job.project_id == project_id, Job.id == job_id)
    return read_placements(connection.scalar(query))


def placements(*, taking_jobs: bool) -> ColumnElement[Any]:
    """Return how the registered workers match the query's job, for `read_placements`: all workers, or only those that
    take jobs."""
    allowed = select(Project.allowed_labels).where(Project.id == Job.project_id).correlate_except(Project)
    each = func.jsonb_build_array(
        Worker.id, Worker.disk_full, allowed.scalar_subquery(), *conditions(registered()).values()
    )
    query = select(func.jsonb_agg(each, type_=JSONB)).select_from(Worker).correlate(Job)
    return query.where(*(takes_jobs() if taking_jobs else ())).scalar_subquery()


def read_placements(raw: Sequence[Any] | None) -> Sequence[Placement]:
    names = condition_names()
    return [
        Placement(id, disk_full, allowed, [name for name, holds in zip(names, holding, strict=True) if not holds])
        for id, disk_full, allowed, *holding in raw or ()
    ]


@cache
def condition_names() -> Sequence[str]:
    return list(conditions(registered()))


def is_machine_online(connection: Connection, fingerprint: str) -> bool:
    """Return whether a worker that takes jobs has this fingerprint."""
    query = select(exists().where(*takes_jobs(), Worker.machine_fingerprint == fingerprint))
    return bool(connection.scalar(query))


def takes_jobs() -> tuple[ColumnElement[bool], ...]:
    return is_online(), ~Worker.draining, Worker.queues.contains(["training"])


def lease_end(seconds: float) -> ColumnElement[Any]:
    return func.clock_timestamp() + timedelta(seconds=seconds)
