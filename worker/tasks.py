"""Defines the Celery tasks. Each only means "look for work"; the work itself is recorded in PostgreSQL."""

import threading
from functools import cache

import structlog
from sqlalchemy.exc import DBAPIError

from app.db.session import transaction
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.models.fetching import FetchPlace, fetch_next
from app.storage import FAILURES
from app.uploads.service import join_next
from worker.attempt.cleanup import clear_leftovers
from worker.attempt.runner import AttemptRunner
from worker.celery_app import app, draining
from worker.context import worker_context
from worker.host.deleted_projects import clear_deleted_projects
from worker.light.dataset_checks import run_next_check
from worker.light.inspections import InspectionContext, clear_scratch, inspect_next
from worker.light.webhook_sender import WebhookSender

log = structlog.get_logger()

slot = threading.Lock()
"""Held during an attempt, so that wake-ups and polls start only one at a time."""


checks_wanted = threading.Event()
"""Set by a wake-up for the light worker, and after an inspection: there may be dataset checks to run."""


models_wanted = threading.Event()
"""Set by a wake-up for the light worker: there may be models to fetch."""


deliveries_wanted = threading.Event()
"""Set by a wake-up for webhooks, and when a sender becomes free."""


@app.task
def claim_jobs() -> None:
    train()


@app.task
def inspect_dataset() -> None:
    inspect()


@app.task
def send_webhooks() -> None:
    """Set the event only; the sender's threads deliver what is due."""
    deliveries_wanted.set()


@cache
def webhook_sender() -> WebhookSender:
    context = worker_context()
    return WebhookSender(context.settings, context.sessions, deliveries_wanted)


def train() -> None:
    """Run jobs until none is queued or this worker is draining; return at once if that is in progress already.

    Leftovers of killed workers are removed first, since their disk space may be needed. While no job is queued, a
    standby process is kept ready."""
    if not slot.acquire(blocking=False):
        return
    try:
        clear_dead_attempts()
        while not draining.is_set() and (claim := claim_job()):
            settings, sessions, storage, redis, _, standby, disk_space, cache = worker_context()
            AttemptRunner(settings, sessions, storage, redis, claim, draining, standby, disk_space, cache).run()
        if not draining.is_set():
            worker_context().standby.start()
    finally:
        slot.release()


def inspect() -> None:
    checks_wanted.set()
    models_wanted.set()
    if not slot.acquire(blocking=False):
        return
    context = worker_context()
    settings, inspection_context = context.settings, make_inspection_context()
    try:
        clear_scratch(settings.work_dir)
        joining = context.sessions, context.storage, context.machine.worker_id, settings.lease_seconds
        while not draining.is_set() and (join_next(*joining) or inspect_next(inspection_context, draining)):
            continue
    except DBAPIError as error:
        log.warning("PostgreSQL is unreachable; inspections are delayed", error=str(error)[:300])
    except FAILURES as error:
        log.warning("storage failed; the inspection is retried", error=str(error)[:300])
    finally:
        slot.release()
        checks_wanted.set()


def run_dataset_checks() -> None:
    """Run previews and overlap checks on a separate thread of a light worker, so that a long one delays no upload."""
    context = worker_context()
    try:
        while not draining.is_set() and run_next_check(
            make_inspection_context(), context.cache, context.machine, draining
        ):
            continue
    except DBAPIError as error:
        log.warning("PostgreSQL is unreachable; dataset checks are delayed", error=str(error)[:300])
    except FAILURES as error:
        log.warning("storage failed; the dataset check is retried", error=str(error)[:300])


def fetch_models() -> None:
    """Fetch models on a separate thread of a light worker, because a fetch takes minutes and must delay neither uploads
    nor previews."""
    context = worker_context()
    settings = context.settings
    limits = settings.lease_seconds, settings.allowed_model_roots
    place = FetchPlace(context.machine.worker_id, context.sessions, context.storage, settings.work_dir, *limits)
    try:
        while not draining.is_set() and fetch_next(place, draining):
            continue
    except DBAPIError as error:
        log.warning("PostgreSQL is unreachable; model fetches are delayed", error=str(error)[:300])
    except FAILURES as error:
        log.warning("storage failed; the model fetch is retried", error=str(error)[:300])


def deliver() -> None:
    try:
        webhook_sender().send_due(draining)
    except DBAPIError as error:
        log.warning("PostgreSQL is unreachable; webhooks are delayed", error=str(error)[:300])


def make_inspection_context() -> InspectionContext:
    context = worker_context()
    settings = context.settings
    limits = settings.lease_seconds, settings.max_upload_bytes
    return InspectionContext(context.machine.worker_id, context.sessions, context.storage, settings.work_dir, *limits)


def clear_dead_attempts() -> None:
    """Remove leftovers. The caller holds `slot`, so no attempt of this worker is running."""
    context = worker_context()
    try:
        clear_leftovers(context.sessions, context.settings.work_dir)
    except DBAPIError as error:
        log.warning("PostgreSQL is unreachable; folders of dead attempts are removed later", error=str(error)[:300])


def clear_projects() -> None:
    """Remove the folders of deleted projects on a separate thread, so that they do not wait for a training to end."""
    context = worker_context()
    try:
        clear_deleted_projects(context.sessions, context.settings.work_dir, context.machine.worker_id)
    except DBAPIError as error:
        log.warning("PostgreSQL is unreachable; folders of deleted projects are removed later", error=str(error)[:300])


def claim_job() -> Claim | None:
    context = worker_context()
    if context.disk_space.is_short():
        log.warning("not enough free disk space; no jobs are claimed", folder=str(context.settings.work_dir))
        return None
    try:
        with transaction(context.sessions, "claim") as session:
            wait = context.settings.exact_resume_wait_seconds
            job = QueueService(session).claim(context.machine, context.settings.lease_seconds, wait)
    except DBAPIError as error:
        log.warning("PostgreSQL is unreachable; no jobs are claimed", error=str(error)[:300])
        return None
    return Claim(job.project_id, job.id, job.attempt, job.claim_token or "") if job else None
