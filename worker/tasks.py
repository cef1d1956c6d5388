"""Thin tasks. Each means "look for work": the truth about what there is to do lies in Postgres."""

import threading
from functools import cache
from typing import NamedTuple

import structlog
from redis import Redis
from sqlalchemy.exc import DBAPIError

from app import live_metrics
from app.db.session import Sessions, connect, open_sessions, transaction
from app.domain.hardware import Machine
from app.jobs.queue.repository import Claim, QueueRepository
from app.models.fetching import FetchPlace, fetch_next
from app.settings import Settings, get_settings
from app.storage import FAILURES, Storage
from app.uploads.service import join_next
from worker.attempt.cleanup import clear_leftovers
from worker.attempt.runner import Attempt
from worker.celery_app import app, draining
from worker.host.deleted_projects import clear_deleted_projects
from worker.host.disk_space import Room
from worker.host.hardware import find_training_machine
from worker.host.model_cache import ModelCache
from worker.light.dataset_checks import run_next_check
from worker.light.inspections import Place, clear_scratch, inspect_next
from worker.light.webhook_sender import Courier
from worker.processes.standby import Spare

log = structlog.get_logger()

slot = threading.Lock()
"""One attempt at a time, whether a bell or the poll began it."""


checks_wanted = threading.Event()
"""Somebody rang the light worker, or an inspection has ended: there may be dataset checks to do."""


models_wanted = threading.Event()
"""Somebody rang the light worker: there may be models to fetch."""


deliveries_wanted = threading.Event()
"""Somebody rang for webhooks, or a sender has come free."""


class Surroundings(NamedTuple):
    settings: Settings
    sessions: Sessions
    storage: Storage
    redis: Redis
    machine: Machine
    spare: Spare
    room: Room
    cache: ModelCache


@cache
def surroundings() -> Surroundings:
    settings = get_settings()
    storage = Storage(settings.storage)
    return Surroundings(
        settings,
        open_sessions(connect(settings.database_url)),
        storage,
        live_metrics.connect(settings.redis_url),
        find_training_machine(settings.training_threads)._replace(labels=settings.labels),
        Spare(wanted=settings.standby_process),
        Room(settings),
        ModelCache(settings, storage),
    )


@app.task
def claim_jobs() -> None:
    train()


@app.task
def inspect_dataset() -> None:
    inspect()


@app.task
def send_webhooks() -> None:
    """The bell alone: what is due is sent by threads of their own."""
    deliveries_wanted.set()


@cache
def courier() -> Courier:
    around = surroundings()
    return Courier(around.settings, around.sessions, deliveries_wanted)


def train() -> None:
    """Take up jobs until none waits or this worker is asked to stop; nothing if that is under way already. While none
    waits, a spare process does. First goes what killed workers left, since its room may be needed."""
    if not slot.acquire(blocking=False):
        return
    try:
        clear_away()
        while not draining.is_set() and (claim := claim_job()):
            settings, sessions, storage, redis, _, spare, room, cache = surroundings()
            Attempt(settings, sessions, storage, redis, claim, draining, spare, room, cache).run()
        if not draining.is_set():
            surroundings().spare.start()
    finally:
        slot.release()


def inspect() -> None:
    checks_wanted.set()
    models_wanted.set()
    if not slot.acquire(blocking=False):
        return
    around = surroundings()
    settings, place = around.settings, inspecting_place()
    try:
        clear_scratch(settings.work_dir)
        joining = around.sessions, around.storage, around.machine.worker_id, settings.lease_seconds
        while not draining.is_set() and (join_next(*joining) or inspect_next(place, draining)):
            continue
    except DBAPIError as error:
        log.warning("inspection waits for Postgres", error=str(error)[:300])
    except FAILURES as error:
        log.warning("inspection failed for want of storage, will try again", error=str(error)[:300])
    finally:
        slot.release()
        checks_wanted.set()


def run_dataset_checks() -> None:
    """Previews and overlaps, by one thread of a light worker alone: no upload waits behind a long one."""
    around = surroundings()
    try:
        while not draining.is_set() and run_next_check(inspecting_place(), around.cache, around.machine, draining):
            continue
    except DBAPIError as error:
        log.warning("a dataset check waits for Postgres", error=str(error)[:300])
    except FAILURES as error:
        log.warning("a dataset check failed for want of storage, will try again", error=str(error)[:300])


def fetch_models() -> None:
    """By one thread of a light worker alone: what takes minutes holds up neither an upload nor a preview."""
    around = surroundings()
    settings = around.settings
    limits = settings.lease_seconds, settings.allowed_model_roots
    place = FetchPlace(around.machine.worker_id, around.sessions, around.storage, settings.work_dir, *limits)
    try:
        while not draining.is_set() and fetch_next(place, draining):
            continue
    except DBAPIError as error:
        log.warning("a model waits for Postgres", error=str(error)[:300])
    except FAILURES as error:
        log.warning("a model was not stored, will try again", error=str(error)[:300])


def deliver() -> None:
    try:
        courier().send_due(draining)
    except DBAPIError as error:
        log.warning("webhooks wait for Postgres", error=str(error)[:300])


def inspecting_place() -> Place:
    around = surroundings()
    settings = around.settings
    limits = settings.lease_seconds, settings.max_upload_bytes
    return Place(around.machine.worker_id, around.sessions, around.storage, settings.work_dir, *limits)


def clear_away() -> None:
    """Under the slot's lock: no attempt of this worker is under way."""
    around = surroundings()
    try:
        clear_leftovers(around.sessions, around.settings.work_dir)
    except DBAPIError as error:
        log.warning("leftovers wait for Postgres", error=str(error)[:300])


def clear_projects() -> None:
    """By a thread of its own: a deleted project's folders do not wait for the end of another's training."""
    around = surroundings()
    try:
        clear_deleted_projects(around.sessions, around.settings.work_dir, around.machine.worker_id)
    except DBAPIError as error:
        log.warning("the folders of deleted projects wait for Postgres", error=str(error)[:300])


def claim_job() -> Claim | None:
    around = surroundings()
    if around.room.is_short():
        log.warning("no work is claimed while the disk has no room", folder=str(around.settings.work_dir))
        return None
    try:
        with transaction(around.sessions, "claim") as session:
            wait = around.settings.exact_resume_wait_seconds
            job = QueueRepository(session).claim(around.machine, around.settings.lease_seconds, wait)
    except DBAPIError as error:
        log.warning("no work can be claimed while Postgres is away", error=str(error)[:300])
        return None
    return Claim(job.project_id, job.id, job.attempt, job.claim_token or "") if job else None
