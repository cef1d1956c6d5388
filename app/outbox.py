"""Writes wake-ups as rows in the caller's transaction, and relays them to Celery afterwards.

A wake-up says "look for work" and carries no state, so losing one or sending it ten times changes nothing.
"""

from typing import Literal, NamedTuple

from celery import Celery
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db.tables import OutboxRow
from app.set_aside import STRICT, SetAside

Queue = Literal["training", "light"]
Wakeup = Literal["training", "light", "webhooks"]


class UnknownWakeup(Exception):
    """A row of the outbox names no known task: Redis might hold other data under the name of its queue."""


class Task(NamedTuple):
    name: str
    queue: Queue


TASKS: dict[Wakeup, Task] = {
    "training": Task("worker.tasks.claim_jobs", "training"),
    "light": Task("worker.tasks.inspect_dataset", "light"),
    "webhooks": Task("worker.tasks.send_webhooks", "light"),
}
BATCH = 100


def enqueue_wakeup(session: Session, project_id: str, wakeup: Wakeup) -> None:
    """Append a wake-up in the caller's transaction."""
    task = TASKS[wakeup]
    session.add(OutboxRow(project_id=project_id, queue=task.queue, task=task.name))


def create_wakeup_publisher(broker_url: str) -> Celery:
    """Create a publisher that fails within seconds: by default a stopped Redis blocks `send_task` for ever."""
    celery = Celery("tunewright", broker=broker_url, set_as_current=False)
    celery.conf.update(
        task_ignore_result=True,
        task_publish_retry=False,
        broker_connection_timeout=5,
        broker_transport_options={"socket_timeout": 5, "socket_connect_timeout": 5},
    )
    return celery


def relay(session: Session, publisher: Celery, aside: SetAside = STRICT) -> int:
    """Publish waiting wake-ups and delete their rows in one transaction; return how many there were. A row that is no
    wake-up is set aside.

    A wake-up that is published but not committed is sent twice, which is harmless; the opposite order would lose it.
    """
    query = select(OutboxRow).where(OutboxRow.id.not_in(aside.ids("outbox"))).order_by(OutboxRow.id)
    rows = session.scalars(query.limit(BATCH).with_for_update(skip_locked=True)).all()
    sent = []
    for row in rows:
        with aside.guard("outbox", row.id):
            if (row.task, row.queue) not in TASKS.values():
                raise UnknownWakeup
            publisher.send_task(row.task, queue=row.queue)
            sent.append(row.id)
    if sent:
        session.execute(delete(OutboxRow).where(OutboxRow.id.in_(sent)))
    return len(rows)
