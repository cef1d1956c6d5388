"""Registers the worker, sends heartbeats while it is busy or idle, and signs it off at the end."""

import threading
from collections.abc import Callable, Collection

import structlog
from sqlalchemy.exc import DBAPIError

from app.db.session import connect, open_sessions, transaction
from app.jitter import jittered
from app.settings import Settings
from app.workers.service import WorkerService
from worker.host.disk_space import DiskSpace
from worker.host.free_memory import FreeMemory
from worker.host.hardware import find_integrations, find_training_machine, find_versions

log = structlog.get_logger()

END_SECONDS = 5.0


class Presence:
    """Sends heartbeats on a thread with a separate database connection, so that the worker's other work cannot block
    them."""

    def __init__(
        self, settings: Settings, queues: Collection[str], draining: threading.Event, disk_space: DiskSpace
    ) -> None:
        self._engine = connect(settings.database_url, pool_size=1)
        self._sessions = open_sessions(self._engine)
        self._lease, self._every = settings.lease_seconds, settings.heartbeat_seconds
        self._queues, self._draining, self._disk_space = queues, draining, disk_space
        self._integrations = find_integrations() if "training" in queues else []
        self._machine = find_training_machine(settings.training_threads)._replace(labels=settings.labels)
        self._free_memory = FreeMemory(self._machine.device)
        self._registered = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Sign off a draining worker. A killed worker goes offline when its lease expires."""
        assert self._draining.is_set()
        self._ended.set()
        self._thread.join(END_SECONDS)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._try(self._send_heartbeat)
            # A worker that starts to drain reports it at once.
            (self._ended if self._draining.is_set() else self._draining).wait(jittered(self._every))
        self._try(self._sign_off)
        self._engine.dispose()

    def _try(self, act: Callable[[WorkerService], None]) -> None:
        try:
            with transaction(self._sessions, "sign_of_life") as session:
                act(WorkerService(session))
        except DBAPIError as error:
            log.warning("PostgreSQL is unreachable; no heartbeat was sent", error=str(error)[:300])
        except Exception:
            # Heartbeats must continue after any error.
            log.exception("a heartbeat failed; it is retried")

    def _send_heartbeat(self, workers: WorkerService) -> None:
        id, draining, full = self._machine.worker_id, self._draining.is_set(), self._disk_space.is_short()
        free = self._free_memory.read_gb()
        if self._registered and workers.sign(
            id, draining=draining, disk_full=full, free_memory_gb=free, lease=self._lease
        ):
            return
        described = self._machine, find_versions(), self._queues, self._integrations
        workers.register(*described, draining=draining, disk_full=full, free_memory_gb=free, lease=self._lease)
        self._registered = True

    def _sign_off(self, workers: WorkerService) -> None:
        workers.leave(self._machine.worker_id)
