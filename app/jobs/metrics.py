"""Metric points in the database."""

from collections.abc import Sequence
from itertools import groupby

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Session, aliased

from app.db.tables import Attempt, MetricValue
from app.domain.metric import MetricPoint


class MetricRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, project_id: str, job_id: str, points: Sequence[MetricPoint]) -> None:
        """Store points once, however often they are sent."""
        rows = [
            {
                "project_id": project_id,
                "job_id": job_id,
                "attempt": point.attempt,
                "number": point.number,
                "step": point.step,
                "at": point.at,
                "name": name,
                "value": value,
            }
            for point in points
            for name, value in point.values.items()
        ]
        if rows:
            self.session.execute(insert(MetricValue).on_conflict_do_nothing(), rows)

    def after(self, project_id: str, job_id: str, attempt: int, number: int, limit: int) -> list[MetricPoint]:
        """At most `limit` points in the order they were measured, beyond a reader's place, of whatever attempt."""
        place = (
            select(MetricValue.attempt, MetricValue.number)
            .where(
                *_of(project_id, job_id),
                or_(MetricValue.attempt > attempt, and_(MetricValue.attempt == attempt, MetricValue.number > number)),
            )
            .distinct()
            .order_by(MetricValue.attempt, MetricValue.number)
            .limit(limit)
            .subquery()
        )
        query = (
            select(MetricValue)
            .join(place, and_(place.c.attempt == MetricValue.attempt, place.c.number == MetricValue.number))
            .where(*_of(project_id, job_id))
            .order_by(MetricValue.attempt, MetricValue.number, MetricValue.name)
        )
        return _points(self.session.scalars(query).all())

    def curve(
        self, project_id: str, job_id: str, names: Sequence[str], after_step: int, limit: int
    ) -> list[MetricPoint]:
        """For each step beyond `after_step` the highest attempt's point, at most `limit` of them.

        What an attempt measured beyond the step that a later one went on from does not count.
        """
        later = aliased(Attempt)
        rewound = (
            select(func.min(later.start_step))
            .where(later.project_id == project_id, later.job_id == job_id, later.number > MetricValue.attempt)
            .correlate(MetricValue)
            .scalar_subquery()
        )
        wanted = [
            *_of(project_id, job_id),
            MetricValue.step > after_step,
            or_(rewound.is_(None), MetricValue.step <= rewound),
        ]
        if names:
            wanted.append(MetricValue.name.in_(names))
        steps = select(MetricValue.step).where(*wanted).distinct().order_by(MetricValue.step).limit(limit).subquery()
        query = (
            select(MetricValue)
            .where(*wanted, MetricValue.step.in_(select(steps.c.step)))
            .ext(distinct_on(MetricValue.step, MetricValue.name))
            .order_by(MetricValue.step, MetricValue.name, MetricValue.attempt.desc())
        )
        rows = self.session.scalars(query).all()
        return [
            MetricPoint(
                attempt=max(row.attempt for row in group),
                number=max(row.number for row in group),
                step=step,
                at=max(row.at for row in group),
                values={row.name: row.value for row in group},
            )
            for step, rows_of_step in groupby(rows, key=lambda row: row.step)
            for group in [list(rows_of_step)]
        ]


def _of(project_id: str, job_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return MetricValue.project_id == project_id, MetricValue.job_id == job_id


def _points(rows: Sequence[MetricValue]) -> list[MetricPoint]:
    return [
        MetricPoint(attempt=attempt, number=number, step=step, at=at, values={row.name: row.value for row in group})
        for (attempt, number, step, at), group in groupby(rows, key=lambda r: (r.attempt, r.number, r.step, r.at))
    ]
