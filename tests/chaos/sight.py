"""What can be seen of the jobs from outside: their rows, and the processes that work for them."""

from typing import NamedTuple

import psutil
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from app.db.session import Sessions, transaction
from app.db.tables import Job
from app.domain.job import FINAL, JobPhase, JobState
from tests.chaos.users import NUMBER


class Sight(NamedTuple):
    id: str
    number: int
    state: JobState
    phase: str | None
    attempt: int

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
            rows = session.execute(select(Job.id, Job.metadata_[NUMBER].astext, Job.state, Job.phase, Job.attempt))
            return [
                Sight(id, int(number), JobState(state), phase, attempt) for id, number, state, phase, attempt in rows
            ]
    except DBAPIError:
        return None


def find_work(workers: dict[str, psutil.Process], sight: Sight) -> Work | None:
    """A training process moves into its attempt's folder, and is known by that."""
    folder = f"/{sight.id}/{sight.attempt}"
    for name, process in workers.items():
        for child in descendants(process):
            try:
                if child.cwd().endswith(folder):
                    return Work(name, process, child)
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
