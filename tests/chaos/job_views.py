"""Reads the jobs' rows and finds the processes that run them."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import psutil
from sqlalchemy import Select, exists, func, select
from sqlalchemy.exc import DBAPIError

from app.db.session import Sessions, transaction
from app.db.tables import Job, Worker
from app.domain.jobs.state import FINAL, JobPhase, JobState
from tests.chaos.stack import LEASE_SECONDS
from tests.chaos.users import NUMBER

STUCK_SECONDS = 4 * LEASE_SECONDS
"""Includes the extra lease that recovery waits after an outage of PostgreSQL."""


class JobView(NamedTuple):
    id: str
    number: int
    state: JobState
    phase: str | None
    attempt: int
    lapsed_seconds: float
    """Counts from the end of the lease of a job that was not recovered. It is at most 0 while the lease holds."""

    @property
    def is_stuck(self) -> bool:
        return self.lapsed_seconds > STUCK_SECONDS

    @property
    def is_stuck_for_good(self) -> bool:
        return self.lapsed_seconds > 3 * STUCK_SECONDS

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def trains(self) -> bool:
        return self.state is JobState.running and self.phase == JobPhase.training


class Work(NamedTuple):
    """Holds an attempt's processes on this machine."""

    worker: str
    process: psutil.Process
    """Is the worker's process."""
    child: psutil.Process

    def tree(self) -> list[psutil.Process]:
        return [self.process, *descendants(self.process)]


def read_jobs(sessions: Sessions) -> list[JobView] | None:
    """Return every job; None while PostgreSQL is unreachable."""
    try:
        with transaction(sessions) as session:
            return [
                JobView(id, int(number), JobState(state), phase, attempt, float(seconds))
                for id, number, state, phase, attempt, seconds in session.execute(job_query())
            ]
    except DBAPIError:
        return None


@cache
def job_query() -> Select[Any]:
    """Return the query, built once: it runs ten times a second."""
    lapsed = func.coalesce(func.extract("epoch", func.clock_timestamp() - Job.lease_until), 0)
    return select(Job.id, Job.metadata_[NUMBER].astext, Job.state, Job.phase, Job.attempt, lapsed)


class WorkerKind(NamedTuple):
    """Identifies a kind of worker. Real jobs run on real workers, and resume exactly on the same number of threads."""

    is_real: bool
    threads: int


class Registered(NamedTuple):
    """Holds what a worker has registered."""

    version: str
    """Is the package's version."""
    trains: bool
    """Says whether it trains a job that has taken some steps."""


def registered(sessions: Sessions) -> dict[int, Registered]:
    """Return the registered workers by process id; none while PostgreSQL is unreachable."""
    try:
        with transaction(sessions) as session:
            return {int(id.rpartition("-")[2]): Registered(*facts) for id, *facts in session.execute(worker_query())}
    except DBAPIError:
        return {}


@cache
def worker_query() -> Select[Any]:
    trains = exists().where(
        Job.worker_id == Worker.id, Job.state == JobState.running, Job.phase == JobPhase.training, Job.step > 0
    )
    return select(Worker.id, Worker.versions["tunewright"].astext, trains)


def count_free(
    sessions: Sessions, workers: Mapping[str, psutil.Process], threads: Mapping[int, int]
) -> Counter[WorkerKind]:
    """Count the workers of each kind that could claim a job; none while PostgreSQL is unreachable. They are registered,
    hold no attempt, and have disk space. `threads` maps process ids to numbers of threads."""
    try:
        with transaction(sessions) as session:
            free = set(session.scalars(free_worker_query()))
    except DBAPIError:
        return Counter()
    pids = {int(id.rpartition("-")[2]) for id in free}
    return Counter(
        WorkerKind(name.startswith("real"), threads[process.pid])
        for name, process in workers.items()
        if process.pid in pids
    )


@cache
def free_worker_query() -> Select[str]:
    holds = exists().where(Job.worker_id == Worker.id, Job.lease_until.is_not(None))
    return select(Worker.id).where(~holds, ~Worker.draining, ~Worker.disk_full)


def find_work(workers: dict[str, psutil.Process], view: JobView) -> Work | None:
    """Find the attempt's processes. The training process is identified by its working folder."""
    folder = f"/{view.id}/{view.attempt}/training"
    names = {process.pid: name for name, process in workers.items()}
    for child in psutil.process_iter():
        try:
            if not child.cwd().endswith(folder):
                continue
            for parent in child.parents():
                if name := names.get(parent.pid):
                    return Work(name, workers[name], child)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return None


def descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
