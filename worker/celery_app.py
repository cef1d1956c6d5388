"""Configures Celery for wake-ups: two queues, `training` and `light`, whose messages only say "look for work".

Workers start with `celery -A worker.main`, which also polls without a message."""

import threading
from typing import Any

from celery import Celery, signals
from kombu.transport import TRANSPORT_ALIASES

from app import logs
from app.outbox import TASKS
from app.secrets.private_memory import keep_memory_private
from app.settings import get_settings

logs.configure()

# A custom transport that a setting names is ignored for redis+socket:// URLs, so it is registered for every URL scheme.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "worker.wakeups:Transport"))

app = Celery("tunewright", broker=get_settings().broker_url, include=["worker.tasks"])
app.conf.update(
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_routes={task.name: task.queue for task in TASKS.values()},
    task_create_missing_queues=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    worker_enable_remote_control=False,  # Anyone with access to Redis could stop workers with it.
    timezone="UTC",
)


@signals.celeryd_init.connect
def _keep_memory_private(**_: Any) -> None:
    keep_memory_private()


draining = threading.Event()
"""Set by SIGTERM: the running attempt saves a checkpoint and releases its job."""


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    draining.set()
