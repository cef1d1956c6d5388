"""Runs beside the server: relays the outbox, recovers lost work, and removes what is no longer kept.

Each duty has a separate thread, so that one that is blocked (for example by a stopped Redis) delays no other. An error
ends only one turn of a duty, and the row that caused it is set aside for a while.
"""

import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import live_metrics, logs, outbox
from app.dataset_checks.service import DatasetCheckService
from app.datasets.service import DatasetService
from app.db.session import Sessions, connect, is_outage, open_sessions, transaction
from app.domain.jobs.state import JobState
from app.jitter import jittered
from app.jobs.queue.repository import RECOVERY_PARTS, RecoveryPart
from app.jobs.queue.service import QueueService
from app.openai.jobs.create_repository import forget_created
from app.retention.collector import Collector
from app.retention.project_eraser import ProjectEraser
from app.secrets.private_memory import keep_memory_private
from app.sessions.repository import forget_sessions
from app.set_aside import OUTAGES, SetAside, fault_of, take_all
from app.settings import Settings, get_settings
from app.storage import Storage
from app.uploads.service import UploadService
from app.web.idempotency_repository import forget_answers
from app.workers.service import WorkerService

log = structlog.get_logger()

RELAY_SECONDS = 0.2
COLLECT_SECONDS = 30.0
RETAIN_SECONDS = 60.0
ERASE_SECONDS = 1.0
REMIND_SECONDS = 5.0


class Dispatcher:
    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self.settings, self.sessions = settings, sessions
        self.publisher = outbox.create_wakeup_publisher(settings.broker_url)
        storage = Storage(settings.storage)
        self.aside = SetAside()
        self.collector = Collector(settings, sessions, storage, self.aside)
        self.eraser = ProjectEraser(sessions, storage, live_metrics.connect(settings.redis_url), self.aside)
        # Healthy workers report first: at the start, and after each outage of PostgreSQL, recovery waits a full lease.
        self.recovery_starts_at = time.monotonic() + settings.lease_seconds
        self.reminded_at = 0.0

    def relay(self) -> None:
        take_all(relay=self._relay, remind=self._remind_if_due)

    def _relay(self) -> None:
        while self._relay_batch() == outbox.BATCH:
            continue

    def _relay_batch(self) -> int:
        with transaction(self.sessions, "relay") as session:
            return outbox.relay(session, self.publisher, self.aside)

    def _remind_if_due(self) -> None:
        if time.monotonic() - self.reminded_at > REMIND_SECONDS:
            self.reminded_at = time.monotonic()
            self.remind()

    def remind(self) -> None:
        """Send wake-ups again for work that waits although its queue is empty: they were lost with Redis."""
        with transaction(self.sessions, "remind") as session:
            for queue, projects in (
                ("training", QueueService(session).projects_with_work()),
                ("light", find_light_work(session)),
            ):
                if projects and not self.has_wakeups(queue):
                    for project_id in projects:
                        outbox.enqueue_wakeup(session, project_id, queue)  # type: ignore[arg-type]

    def has_wakeups(self, queue: str) -> bool:
        with self.publisher.connection_for_write() as connection:
            return bool(connection.default_channel.client.llen(queue))

    def recover_lost_work(self) -> None:
        try:
            if time.monotonic() < self.recovery_starts_at:
                self._check_postgres()
            else:
                take_all(**{part: partial(self._recover_part, part) for part in RECOVERY_PARTS})
        except DBAPIError:
            if self._is_postgres_away():
                self.recovery_starts_at = time.monotonic() + self.settings.lease_seconds
            raise

    def _check_postgres(self) -> None:
        """Check PostgreSQL while recovery waits, so that the wait counts from the end of an outage and not from its
        start."""
        with self.sessions() as session:
            session.connection()

    def _is_postgres_away(self) -> bool:
        """Return whether PostgreSQL is away. A single broken connection does not count: it prevents no worker's
        heartbeat."""
        try:
            self._check_postgres()
        except DBAPIError:
            return True
        return False

    def _recover_part(self, part: RecoveryPart) -> None:
        with transaction(self.sessions, "recover_lost_work") as session:
            for job in QueueService(session).recover_lost_work([part], self.aside):
                log.warning("recovered a lost job", job=job.id, attempt=job.attempt, state=job.state)
                if job.state == JobState.queued:
                    outbox.enqueue_wakeup(session, job.project_id, "training")

    def collect(self) -> None:
        """Remove deleted bytes, expired answers and sessions, and workers that have long been silent."""
        take_all(
            collect=self.collector.collect,
            forget_answers=partial(self._forget, forget_answers),
            forget_created=partial(self._forget, forget_created),
            forget_sessions=partial(self._forget, forget_sessions),
            forget_workers=partial(self._forget, forget_workers),
        )

    def _forget(self, forget: Callable[[Session], None]) -> None:
        with transaction(self.sessions, "forget") as session:
            forget(session)

    def retain(self) -> None:
        self.collector.retain()

    def erase(self) -> None:
        """Advance the deletion of projects."""
        self.eraser.erase()


def forget_workers(session: Session) -> None:
    for id in WorkerService(session).forget_unseen():
        log.info("removed a worker not seen for a day", worker=id)


def find_light_work(session: Session) -> set[str]:
    """Return the ids of the projects with work for the light workers."""
    services = DatasetService(session), UploadService(session), DatasetCheckService(session)
    return {project_id for service in services for project_id in service.projects_with_work()}


def run(settings: Settings, stop: threading.Event) -> None:
    engine = connect(settings.database_url)
    dispatcher = Dispatcher(settings, open_sessions(engine))
    duties = [
        (dispatcher.relay, RELAY_SECONDS),
        (dispatcher.recover_lost_work, settings.recovery_seconds),
        (dispatcher.collect, COLLECT_SECONDS),
        (dispatcher.retain, RETAIN_SECONDS),
        (dispatcher.erase, ERASE_SECONDS),
    ]
    # Daemon threads: a duty blocked by a dead connection must not keep the process from ending; its transaction rolls
    # back.
    threads = [
        threading.Thread(target=repeat_duty, args=(duty, seconds, stop), daemon=True) for duty, seconds in duties
    ]
    for thread in threads:
        thread.start()
    stop.wait()
    for thread in threads:
        thread.join(timeout=10)
    engine.dispose()


def repeat_duty(duty: Callable[[], None], seconds: float, stop: threading.Event) -> None:
    """Run the duty repeatedly; after a failed turn the next one follows."""
    num_broken = 0
    while not stop.wait(jittered(seconds)):
        try:
            duty()
        except Exception as error:
            if isinstance(error, OUTAGES) or (isinstance(error, DBAPIError) and is_outage(error)):
                log.warning("duty failed during an outage; trying again", duty=duty.__name__, error=str(error)[:300])
                continue
            num_broken += 1
            log.error("duty failed; trying again", duty=duty.__name__, count=num_broken, **fault_of(error))


def main() -> None:
    keep_memory_private()
    logs.configure()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run(get_settings(), stop)


if __name__ == "__main__":
    main()
