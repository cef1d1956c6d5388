"""Thin tasks. Each means "look for work": the truth about what there is to do lies in Postgres."""

import threading
from functools import cache
from typing import NamedTuple

import structlog
from redis import Redis
from sqlalchemy.exc import DBAPIError

from app import streams
from app.datasets.service import inspect_next
from app.db.session import Sessions, connect, open_sessions, transaction
from app.domain.machine import Machine
from app.jobs.queue import Claim, QueueRepository
from app.settings import Settings, get_settings
from app.storage import Storage
from app.uploads.service import join_next
from worker.attempt import Attempt
from worker.celery_app import app, draining
from worker.leftovers import clear_leftovers
from worker.machine import find_machine
from worker.spare import Spare

log = structlog.get_logger()

slot = threading.Lock()
"""One attempt at a time, whether a bell or the poll began it."""


class Surroundings(NamedTuple):
    settings: Settings
    sessions: Sessions
    storage: Storage
    redis: Redis
    machine: Machine
    spare: Spare


@cache
def surroundings() -> Surroundings:
    settings = get_settings()
    return Surroundings(
        settings,
        open_sessions(connect(settings.database_url)),
        Storage(settings.storage),
        streams.connect(settings.redis_url),
        find_machine(),
        Spare(wanted=settings.spare_child),
    )


@app.task
def look_for_work() -> None:
    train()


@app.task
def inspect_dataset() -> None:
    inspect()


def train() -> None:
    """Take up jobs until none waits or this worker is asked to stop; nothing if that is under way already. While none
    waits, a spare process does. First goes what killed workers left, since its room may be needed."""
    if not slot.acquire(blocking=False):
        return
    try:
        clear_away()
        while not draining.is_set() and (claim := claim_job()):
            around = surroundings()
            Attempt(around.settings, around.sessions, around.storage, around.redis, claim, draining, around.spare).run()
        if not draining.is_set():
            surroundings().spare.start()
    finally:
        slot.release()


def inspect() -> None:
    if not slot.acquire(blocking=False):
        return
    around = surroundings()
    try:
        given = around.sessions, around.storage, around.settings.lease_seconds
        while not draining.is_set() and (join_next(*given) or inspect_next(*given)):
            continue
    except DBAPIError as error:
        log.warning("inspection waits for Postgres", error=str(error)[:300])
    finally:
        slot.release()


def clear_away() -> None:
    """Under the slot's lock: no attempt of this worker is under way."""
    around = surroundings()
    try:
        clear_leftovers(around.sessions, around.settings.work_dir)
    except DBAPIError as error:
        log.warning("leftovers wait for Postgres", error=str(error)[:300])


def claim_job() -> Claim | None:
    around = surroundings()
    try:
        with transaction(around.sessions, "claim") as session:
            job = QueueRepository(session).claim(around.machine, around.settings.lease_seconds)
    except DBAPIError as error:
        log.warning("no work can be claimed while Postgres is away", error=str(error)[:300])
        return None
    return Claim(job.project_id, job.id, job.attempt, job.claim_token or "") if job else None
