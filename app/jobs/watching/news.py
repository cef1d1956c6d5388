"""Reads what is new about watched jobs."""

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

import structlog
from pydantic import ValidationError
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from app.domain.jobs.state import FINAL, JobState
from app.domain.metric import MetricPoint
from app.jobs.events.schemas import EventOut
from app.jobs.metrics.repository import MetricRepository
from app.jobs.repository import JobRepository
from app.jobs.schemas import JobOut
from app.jobs.shown import find_many_shown
from app.jobs.wait_reason import waiting
from app.jobs.watching.cursors import StreamCursor
from app.jobs.watching.repository import JobHead, find_heads

log = structlog.get_logger()
BATCH: Final = 500
CHANGING: Final = {"state", "phase", "attempt", "progress", "step", "total_steps", "last_metrics"} | {
    *("estimated_finish_at", "waiting_for", "queue_position", "failure", "adapter_id", "started_at", "finished_at")
}
"""Lists the fields of a job that a stream reports."""

BY_PROJECT: Final = attrgetter("project_id")


class StreamBatch(NamedTuple):
    state: JobState
    events: Sequence[EventOut]
    points: Sequence[MetricPoint]

    @property
    def is_over(self) -> bool:
        return self.state in FINAL and not self.events and not self.points


def look(session: Session, project_id: str, job_id: str, place: StreamCursor) -> StreamBatch:
    """Read what PostgreSQL holds beyond `place`. The state is read first: if it is final, nothing can follow."""
    state = JobState(JobRepository(session).get(project_id, job_id).state)
    return StreamBatch(state, *read_beyond(session, project_id, job_id, place))


def read_beyond(
    session: Session, project_id: str, job_id: str, place: StreamCursor
) -> tuple[list[EventOut], list[MetricPoint]]:
    events = JobRepository(session).events(project_id, job_id, place.event, BATCH)
    points = MetricRepository(session).after(project_id, job_id, place.attempt, place.point, BATCH)
    return [EventOut.model_validate(event) for event in events], points


class Asked(NamedTuple):
    """Names a watched job, and what its watcher already knows."""

    project_id: str
    job_id: str
    place: StreamCursor | None
    """Is None if only the newest position is wanted."""
    wants_values: bool
    basis: tuple[Any, ...] | None
    """Is what the known values were made of."""
    is_stale: bool
    """Says that the values of a queued job are to be read again, which can change without its row."""


class Found(NamedTuple):
    state: JobState
    newest: StreamCursor
    basis: tuple[Any, ...]
    events: Sequence[EventOut] = ()
    points: Sequence[MetricPoint] = ()
    values: str | None = None
    """Holds the changing fields in JSON; None if it has not been read again."""


def find_news(connection: Connection, asked: Sequence[Asked]) -> list[Found | None]:
    """Find what is new about each job; None for one that does not exist. If nothing is, this is one statement."""
    heads = find_heads(connection, [(each.project_id, each.job_id) for each in asked])
    found = [_with_items(connection, each, heads.get((each.project_id, each.job_id))) for each in asked]
    wanted = [each for each, news in zip(asked, found, strict=True) if news and _must_show(each, news)]
    values = dict(_read_values(connection, wanted))
    return [news and news._replace(values=values.get(each.job_id)) for each, news in zip(asked, found, strict=True)]


def _with_items(connection: Connection, asked: Asked, head: JobHead | None) -> Found | None:
    if head is None:
        return None
    found = Found(*head)
    if asked.place is None or asked.place.includes(found.newest):
        return found
    with Session(connection) as session:
        events, points = read_beyond(session, asked.project_id, asked.job_id, asked.place)
    return found._replace(events=events, points=points)


def _must_show(asked: Asked, found: Found) -> bool:
    if not asked.wants_values:
        return False
    return found.basis != asked.basis or (asked.is_stale and found.state is JobState.queued)


def _read_values(connection: Connection, wanted: Collection[Asked]) -> Iterator[tuple[str, str]]:
    for project_id, of_project in groupby(sorted(wanted, key=BY_PROJECT), key=BY_PROJECT):
        for shown in find_many_shown(connection, project_id, [each.job_id for each in of_project]):
            waits_for = waiting(connection, shown.job, shown.standing) if shown.standing else None
            try:
                job = JobOut.of(shown.job, shown.details, waits_for)
            except ValidationError:  # one job must not end the streams of all
                log.exception("job cannot be shown", job_id=shown.job.id)
            else:
                yield job.id, job.model_dump_json(include=CHANGING)
