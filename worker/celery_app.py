"""Celery as a doorbell: two queues, `training` and `light`, whose messages say "look for work" and nothing else.

A thread of each worker also asks Postgres every few seconds, under the same lock as the tasks, so that a job starts
even if no bell ever rings. It is a step of the worker and not of the consumer: that one waits for Redis.
"""

import threading
from typing import Any

import structlog
from celery import Celery, bootsteps, signals
from kombu.transport import TRANSPORT_ALIASES

from app import logs
from app.jitter import jittered
from app.outbox import TASKS
from app.secrets.private_memory import keep_memory_private
from app.settings import get_settings
from worker.host.registration import Presence

log = structlog.get_logger()
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


class Poll(bootsteps.StartStopStep):  # type: ignore[misc]  # celery is untyped
    """Looks for work every `poll_seconds`, bell or no bell, and shows meanwhile that the worker lives."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.threads: list[threading.Thread] = []
        self.presence: Presence | None = None

    def start(self, worker: Any) -> None:
        from worker import tasks

        queues = {str(name) for name in worker.app.amqp.queues.consume_from}
        self.presence = Presence(get_settings(), queues, draining, tasks.surroundings().room)
        self.presence.start()
        looks = [look for queue, look in (("training", tasks.train), ("light", tasks.inspect)) if queue in queues]
        self.threads = [threading.Thread(target=poll, args=(looks,), name="poll", daemon=True)]
        self.threads.append(threading.Thread(target=poll, args=([tasks.clear_projects],), name="projects", daemon=True))
        if "light" in queues:
            args = ([tasks.study], tasks.studies_wanted)
            self.threads.append(threading.Thread(target=poll, args=args, name="studies", daemon=True))
            args = ([tasks.fetch_models], tasks.models_wanted)
            self.threads.append(threading.Thread(target=poll, args=args, name="models", daemon=True))
            args = ([tasks.deliver], tasks.deliveries_wanted)
            self.threads.append(threading.Thread(target=poll, args=args, name="webhooks", daemon=True))
        for thread in self.threads:
            thread.start()

    def stop(self, worker: Any) -> None:
        from worker import tasks

        draining.set()
        tasks.studies_wanted.set()
        tasks.models_wanted.set()
        tasks.deliveries_wanted.set()
        for thread in self.threads:
            thread.join()
        tasks.courier().close()
        if self.presence:
            self.presence.end()
        tasks.surroundings().spare.close()


def poll(looks: list[Any], bell: threading.Event = draining) -> None:
    """Every `poll_seconds`, and whenever a bell of its own is set; `draining` ends it, and then so must the bell."""
    while not draining.is_set():
        if bell is not draining:
            bell.clear()
        for look in looks:
            try:
                look()
            except Exception:
                # It starts what no bell announced: whatever a look meets, the next one must come.
                log.exception("a look for work failed, will look again")
        if not draining.is_set():
            bell.wait(jittered(get_settings().poll_seconds))


app.steps["worker"].add(Poll)
