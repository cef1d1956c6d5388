"""Polls for work, so that a job starts even if no wake-up ever arrives.

A thread of each worker queries PostgreSQL every few seconds, under the same lock as the tasks. It is a step of the
worker and not of Celery's consumer, because the consumer waits for Redis."""

import threading
from typing import Any

import structlog
from celery import bootsteps

from app.jitter import jittered
from app.settings import get_settings
from worker import tasks
from worker.celery_app import draining
from worker.context import worker_context
from worker.host.registration import Presence

log = structlog.get_logger()


class Poll(bootsteps.StartStopStep):  # type: ignore[misc]  # celery is untyped
    """Looks for work every `poll_seconds`, with or without a wake-up, and sends the worker's heartbeats."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.threads: list[threading.Thread] = []
        self.presence: Presence | None = None

    def start(self, worker: Any) -> None:
        queues = {str(name) for name in worker.app.amqp.queues.consume_from}
        self.presence = Presence(get_settings(), queues, draining, worker_context().disk_space)
        self.presence.start()
        polls = [task for queue, task in (("training", tasks.train), ("light", tasks.inspect)) if queue in queues]
        self.threads = [threading.Thread(target=poll, args=(polls,), name="poll", daemon=True)]
        self.threads.append(threading.Thread(target=poll, args=([tasks.clear_projects],), name="projects", daemon=True))
        if "light" in queues:
            args = ([tasks.run_dataset_checks], tasks.checks_wanted)
            self.threads.append(threading.Thread(target=poll, args=args, name="dataset-checks", daemon=True))
            args = ([tasks.fetch_models], tasks.models_wanted)
            self.threads.append(threading.Thread(target=poll, args=args, name="models", daemon=True))
            args = ([tasks.deliver], tasks.deliveries_wanted)
            self.threads.append(threading.Thread(target=poll, args=args, name="webhooks", daemon=True))
        for thread in self.threads:
            thread.start()

    def stop(self, worker: Any) -> None:
        draining.set()
        tasks.checks_wanted.set()
        tasks.models_wanted.set()
        tasks.deliveries_wanted.set()
        for thread in self.threads:
            thread.join()
        tasks.webhook_sender().close()
        if self.presence:
            self.presence.end()
        worker_context().standby.close()


def poll(polls: list[Any], wakeup: threading.Event = draining) -> None:
    """Look for work every `poll_seconds`, and when `wakeup` is set. `draining` ends the loop; `wakeup` must then be set
    too."""
    while not draining.is_set():
        if wakeup is not draining:
            wakeup.clear()
        for look_for_work in polls:
            try:
                look_for_work()
            except Exception:
                # Polling covers lost wake-ups, so it must continue after any error.
                log.exception("a poll for work failed; polling continues")
        if not draining.is_set():
            wakeup.wait(jittered(get_settings().poll_seconds))
