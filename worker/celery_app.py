"""Celery's wake-ups: two queues, `training` and `light`, whose messages say "look for work" and nothing else.

Workers are started by `celery -A worker.main`, which looks for work without a message too.
"""

import threading
from typing import Any

from celery import Celery, signals
from kombu.transport import TRANSPORT_ALIASES

from app import logs
from app.outbox import TASKS
from app.secrets.private_memory import keep_memory_private
from app.settings import get_settings

logs.configure()

# By every spelling of a URL: an own transport that is named by a setting is left aside for redis+socket://.
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
    worker_enable_remote_control=False,  # whoever reaches Redis could end workers by it
    timezone="UTC",
)


@signals.celeryd_init.connect
def _keep_memory_private(**_: Any) -> None:
    keep_memory_private()


draining = threading.Event()
"""Set by SIGTERM: the attempt that runs checkpoints and gives its job back."""


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    draining.set()
