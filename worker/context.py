"""Creates what a worker process holds while it runs: its settings, its connections and its machine."""

from functools import cache
from typing import NamedTuple

from redis import Redis

from app import live_metrics
from app.db.session import Sessions, connect, open_sessions
from app.domain.hardware import WorkerHardware
from app.settings import Settings, get_settings
from app.storage import Storage
from worker.host.disk_space import DiskSpace
from worker.host.hardware import find_training_machine
from worker.host.model_cache import ModelCache
from worker.processes.standby import StandbyProcess


class WorkerContext(NamedTuple):
    """Holds what the tasks of a worker process share."""

    settings: Settings
    sessions: Sessions
    storage: Storage
    redis: Redis
    machine: WorkerHardware
    standby: StandbyProcess
    disk_space: DiskSpace
    cache: ModelCache


@cache
def worker_context() -> WorkerContext:
    """Return the context of this process, which its first caller creates."""
    settings = get_settings()
    storage = Storage(settings.storage)
    return WorkerContext(
        settings,
        open_sessions(connect(settings.database_url)),
        storage,
        live_metrics.connect(settings.redis_url),
        find_training_machine(settings.training_threads)._replace(labels=settings.labels),
        StandbyProcess(wanted=settings.standby_process),
        DiskSpace(settings),
        ModelCache(settings, storage),
    )
