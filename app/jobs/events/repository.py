"""Reads the parts of a job's history from the database: its events, and its points by attempt and number."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.db.tables import Attempt, JobEvent, MetricValue
from app.domain.metric import MetricPoint


class HistoryRepository:
    def __init__(self, session: Session, project_id: str, job_id: str) -> None:
        self.session, self.project_id, self.job_id = session, project_id, job_id

    def list_attempts(self) -> list[tuple[int, datetime]]:
        """Return number and time of each claim, oldest first."""
        query = select(Attempt.number, Attempt.started_at).where(
            Attempt.project_id == self.project_id, Attempt.job_id == self.job_id
        )
        return [(number, at) for number, at in self.session.execute(query.order_by(Attempt.number))]

    def find_event_time(self, number: int) -> datetime | None:
        return self.session.scalars(select(JobEvent.created_at).where(*self._own(JobEvent, number=number))).first()

    def find_first_event_since(self, at: datetime) -> int | None:
        query = select(func.min(JobEvent.number)).where(*self._own(JobEvent), JobEvent.created_at >= at)
        return self.session.scalars(query).one()

    def list_events(self, below: int, since: datetime | None, limit: int) -> Sequence[JobEvent]:
        """Return events with lower numbers, newest first."""
        query = select(JobEvent).where(*self._own(JobEvent), JobEvent.number < below)
        if since is not None:
            query = query.where(JobEvent.created_at >= since)
        return self.session.scalars(query.order_by(JobEvent.number.desc()).limit(limit)).all()

    def count_points(self, attempt: int) -> int:
        """Return the highest number: an attempt's points are numbered from 1 without gaps."""
        query = select(func.max(MetricValue.number)).where(*self._own(MetricValue, attempt=attempt))
        return self.session.scalars(query).one() or 0

    def find_point_time(self, attempt: int, number: int) -> datetime | None:
        query = select(MetricValue.measured_at).where(*self._own(MetricValue, attempt=attempt, number=number))
        return self.session.scalars(query.limit(1)).first()

    def list_points(self, attempt: int, first: int, last: int) -> list[MetricPoint]:
        """Return the attempt's points with these numbers, newest first."""
        query = (
            select(MetricValue)
            .where(*self._own(MetricValue, attempt=attempt), MetricValue.number.between(first, last))
            .order_by(MetricValue.number.desc(), MetricValue.name)
        )
        return [
            MetricPoint(
                attempt=attempt, number=number, step=step, measured_at=at, values={row.name: row.value for row in rows}
            )
            for (number, step, at), rows in groupby(
                self.session.scalars(query), key=lambda row: (row.number, row.step, row.measured_at)
            )
        ]

    def _own(self, table: type[JobEvent] | type[MetricValue], **values: int) -> list[ColumnElement[bool]]:
        owner = {"project_id": self.project_id, "job_id": self.job_id}
        return [getattr(table, name) == value for name, value in (owner | values).items()]
