"""Counts the workers that are online, by the database's clock."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.db.tables import Worker


def is_online(worker: Any = Worker) -> ColumnElement[bool]:
    online: ColumnElement[bool] = worker.online_until > func.clock_timestamp()
    return online


def count_online(session: Session, queues: Sequence[str]) -> dict[str, int]:
    """Return how many workers are online and not draining, by the queue that they serve."""
    counts = [func.count().filter(Worker.queues.contains([queue])) for queue in queues]
    row = session.execute(select(*counts).where(is_online(), ~Worker.draining)).one()
    return dict(zip(queues, row, strict=True))
