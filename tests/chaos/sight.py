"""What can be seen of the jobs from outside: their rows, and the processes that work for them."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import psutil
from sqlalchemy import exists, func, select
from sqlalchemy.exc import DBAPIError

from app.db.session import Sessions, transaction
from app.db.tables import Job, Worker
from app.domain.jobs.state import FINAL, JobPhase, JobState
from tests.chaos.stack import LEASE_SECONDS
from tests.chaos.users import NUMBER

STUCK_SECONDS = 4 * LEASE_SECONDS
"""Recovery waits a lease longer after each outage of Postgres."""


class Sight(NamedTuple):
    id: str
    number: int
    state: JobState
    phase: str | None
    attempt: int
    lapsed_seconds: float
    """Since its lease ran out and nobody moved it on; less than 0, or 0, of one that is well."""

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
    """The processes of an attempt on this machine."""

    worker: str
    process: psutil.Process
    """The worker's."""
    child: psutil.Process

    def tree(self) -> list[psutil.Process]:
        return [self.process, *descendants(self.process)]


def look(sessions: Sessions) -> list[Sight] | None:
    """Every job; None while Postgres is away."""
    try:
        with transaction(sessions) as session:
            lapsed = func.coalesce(func.extract("epoch", func.clock_timestamp() - Job.lease_until), 0)
            about = Job.id, Job.metadata_[NUMBER].astext, Job.state, Job.phase, Job.attempt, lapsed
            return [
                Sight(id, int(number), JobState(state), phase, attempt, float(seconds))
                for id, number, state, phase, attempt, seconds in session.execute(select(*about))
            ]
    except DBAPIError:
        return None


class Kind(NamedTuple):
    """Of workers: each job can run on those that are as real, and goes on exactly on those with the same threads."""

    is_real: bool
    threads: int


class Registered(NamedTuple):
    """What a worker has told of itself."""

    version: str
    """Of the package."""
    trains: bool
    """It has a job that a drain takes from it after some steps."""


def registered(sessions: Sessions) -> dict[int, Registered]:
    """By process; none while Postgres is away."""
    trains = exists().where(
        Job.worker_id == Worker.id, Job.state == JobState.running, Job.phase == JobPhase.training, Job.step > 0
    )
    query = select(Worker.id, Worker.versions["tunewright"].astext, trains)
    try:
        with transaction(sessions) as session:
            return {int(id.rpartition("-")[2]): Registered(*told) for id, *told in session.execute(query)}
    except DBAPIError:
        return {}


def count_free(sessions: Sessions, workers: Mapping[str, psutil.Process], threads: Mapping[int, int]) -> Counter[Kind]:
    """How many of the workers would take a job, of each kind; none while Postgres is away. They have registered, hold
    no attempt, and have room. `threads` are those of processes."""
    holds = exists().where(Job.worker_id == Worker.id, Job.lease_until.is_not(None))
    try:
        with transaction(sessions) as session:
            free = set(session.scalars(select(Worker.id).where(~holds, ~Worker.draining, ~Worker.disk_full)))
    except DBAPIError:
        return Counter()
    pids = {int(id.rpartition("-")[2]) for id in free}
    return Counter(
        Kind(name.startswith("real"), threads[process.pid]) for name, process in workers.items() if process.pid in pids
    )


def find_work(workers: dict[str, psutil.Process], sight: Sight) -> Work | None:
    """A training process moves into its attempt's folder, and is known by that."""
    folder = f"/{sight.id}/{sight.attempt}/training"
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
