"""Stores metric points in the database: the values, and buckets with the extremes of each range of steps.

A range of any length is answered from a bounded number of rows, and every point in the answer was measured. Buckets
include everything that an attempt measured. Where a later attempt resumed from an earlier step, the cut splits buckets;
the rest of a split bucket is read from narrower buckets and from the values.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Row, select, tuple_
from sqlalchemy.orm import Session

from app.db.tables import MetricValue
from app.domain.metric import MetricPoint
from app.jobs.metrics.buckets import WIDTHS
from app.jobs.metrics.curve import ENDLESS, Piece, Span, clip, curve_spans, grid_over, pieces_of
from app.jobs.metrics.queries import ADD, BY_STEP, EXPORT, FIRST_POINTS, GROUPS, MEASURED, POINTS_AT

POINT = (MetricValue.attempt, MetricValue.number, MetricValue.step, MetricValue.measured_at)


class Curves(NamedTuple):
    points: list[MetricPoint]
    downsampled: bool


class MetricRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, project_id: str, job_id: str, points: Sequence[MetricPoint]) -> None:
        """Store points once, however often they are sent; only new points are added to the buckets."""
        values = [(point, name, value) for point in points for name, value in point.values.items()]
        rows = {
            "attempts": [point.attempt for point, _, _ in values],
            "numbers": [point.number for point, _, _ in values],
            "steps": [point.step for point, _, _ in values],
            "instants": [point.measured_at for point, _, _ in values],
            "names": [name for _, name, _ in values],
            "values": [value for _, _, value in values],
        }
        owner = {"project_id": project_id, "job_id": job_id}
        if values:
            self.session.execute(ADD, owner | rows | {"widths": list(WIDTHS)})

    def after(self, project_id: str, job_id: str, attempt: int, number: int, limit: int) -> list[MetricPoint]:
        """Return at most `limit` points of all attempts beyond a reader's position, in the order they were measured."""
        of_job = (MetricValue.project_id == project_id, MetricValue.job_id == job_id)
        place = (
            select(MetricValue.attempt, MetricValue.number)
            .where(*of_job, tuple_(MetricValue.attempt, MetricValue.number) > (attempt, number))
            .distinct()
            .order_by(MetricValue.attempt, MetricValue.number)
            .limit(limit)
            .subquery()
        )
        query = (
            select(*POINT, MetricValue.name, MetricValue.value)
            .join(place, (place.c.attempt == MetricValue.attempt) & (place.c.number == MetricValue.number))
            .where(*of_job)
            .order_by(MetricValue.attempt, MetricValue.number, MetricValue.name)
        )
        return [
            MetricPoint(
                attempt=attempt, number=number, step=step, measured_at=at, values={row.name: row.value for row in group}
            )
            for (attempt, number, step, at), group in groupby(self.session.execute(query), key=itemgetter(0, 1, 2, 3))
        ]

    def find_newest(self, project_id: str, job_id: str) -> tuple[int, int]:
        """Return attempt and number of the newest stored point, or zeros."""
        query = (
            select(MetricValue.attempt, MetricValue.number)
            .where(MetricValue.project_id == project_id, MetricValue.job_id == job_id)
            .order_by(MetricValue.attempt.desc(), MetricValue.number.desc())
            .limit(1)
        )
        found = self.session.execute(query).one_or_none()
        return (found.attempt, found.number) if found else (0, 0)

    def spans(
        self, project_id: str, job_id: str, names: Sequence[str] = (), *, rewound_too: bool = False
    ) -> list[Span]:
        """Return the spans of the curves, the earliest attempt first. What an attempt measured beyond the step from
        which a later one resumed does not count; with `rewound_too` the spans cover everything that was measured."""
        bound = {"project_id": project_id, "job_id": job_id, "rewound_too": rewound_too, "endless": ENDLESS}
        measured = [Span(*row) for row in self.session.execute(MEASURED, bound)]
        wanted = [span for span in measured if not names or span.name in names]
        return wanted if rewound_too else curve_spans(wanted)

    def curve(
        self, project_id: str, job_id: str, names: Sequence[str], after_step: int, limit: int
    ) -> list[MetricPoint]:
        """Return, for each step beyond `after_step`, the highest attempt's point; at most `limit` points."""
        spans = clip(self.spans(project_id, job_id, names), after_step + 1, ENDLESS)
        return self._first_points(project_id, job_id, spans, limit)

    def overview(
        self, project_id: str, job_id: str, names: Sequence[str], first: int, last: int, max_points: int
    ) -> Curves:
        """Return the curves from step `first` to `last`: every point, if the maximum allows it, else each name's lowest
        and highest value in equal groups of steps."""
        spans = clip(self.spans(project_id, job_id, names), first, last)
        if not spans:
            return Curves([], False)
        if max(span.last for span in spans) - min(span.first for span in spans) < max_points:
            return Curves(self._first_points(project_id, job_id, spans, max_points), False)
        groups = self._groups(project_id, job_id, spans, max_points)
        if _longest(groups) <= max_points:
            points = self._first_points(project_id, job_id, spans, max_points + 1)
            if len(points) <= max_points:
                return Curves(points, False)
        return Curves(self._extremes(project_id, job_id, groups), True)

    def export(self, project_id: str, job_id: str, span: Span) -> bytes:
        """Return the values as lines of CSV, formatted by PostgreSQL: columns as in `metric_queries.EXPORT_COLUMNS`,
        ordered by step."""
        connection = self.session.connection().connection.driver_connection
        assert isinstance(connection, psycopg.Connection)
        place = (project_id, job_id, span.attempt, span.name, span.first, span.last)
        with connection.cursor() as cursor, cursor.copy(EXPORT, place) as lines:
            return b"".join(lines)

    def by_step(self, project_id: str, job_id: str, spans: Sequence[Span], first: int, last: int) -> bytes:
        """Return the values of a range of steps as lines of CSV: the step, then the columns of `STEP_METRICS`."""
        connection = self.session.connection().connection.driver_connection
        assert isinstance(connection, psycopg.Connection)
        parts = clip(spans, first, last)
        if not parts:
            return b""
        place = (*_columns(Span, parts).values(), project_id, job_id)
        with connection.cursor() as cursor, cursor.copy(BY_STEP, place) as lines:
            return b"".join(lines)

    def at(self, project_id: str, job_id: str, steps: Sequence[int]) -> dict[int, MetricPoint]:
        """Return the curves' points at these steps, by step."""
        spans = self.spans(project_id, job_id)
        wanted = [
            (span.attempt, span.name, step) for span in spans for step in steps if span.first <= step <= span.last
        ]
        if not wanted:
            return {}
        return {point.step: point for point in self._points_at(project_id, job_id, wanted)}

    def _first_points(self, project_id: str, job_id: str, spans: Sequence[Span], limit: int) -> list[MetricPoint]:
        """Read the first points. Spans follow each other by attempt, and share at most the step where one attempt ends
        and the next starts: a point beyond the limit proves that all before it are complete."""
        points: list[MetricPoint] = []
        for _, of_attempt in groupby(spans, key=lambda span: span.attempt):
            bound = _columns(Span, of_attempt) | {"project_id": project_id, "job_id": job_id, "limit": limit + 1}
            points = _joined(points, self.session.execute(FIRST_POINTS, bound).all())
            if len(points) > limit:
                break
        return points[:limit]

    def _groups(self, project_id: str, job_id: str, spans: Sequence[Span], max_points: int) -> Sequence[Row[Any]]:
        num_names = len({span.name for span in spans})
        grid = grid_over(spans, max(max_points // (2 * num_names), 1))
        pieces = chain.from_iterable(pieces_of(span, grid.bucket_widths) for span in spans)
        bound = {"project_id": project_id, "job_id": job_id, "origin": grid.origin, "width": grid.width}
        return self.session.execute(GROUPS, _columns(Piece, pieces) | bound).all()

    def _extremes(self, project_id: str, job_id: str, groups: Sequence[Row[Any]]) -> list[MetricPoint]:
        """Return the extremes' points. `lowest` and `highest` of a group are value, step and attempt."""
        wanted = {
            (int(attempt), group.name, int(step))
            for group in groups
            for _, step, attempt in (group.lowest, group.highest)
        }
        return self._points_at(project_id, job_id, wanted)

    def _points_at(self, project_id: str, job_id: str, wanted: Collection[tuple[int, str, int]]) -> list[MetricPoint]:
        """Return the points of these attempts, names and steps."""
        attempts, names, steps = map(list, zip(*wanted, strict=True))
        bound = {"project_id": project_id, "job_id": job_id, "attempts": attempts, "names": names, "steps": steps}
        return _joined([], self.session.execute(POINTS_AT, bound).all())


def _columns(kind: type[Span] | type[Piece], rows: Iterable[Span | Piece]) -> dict[str, list[Any]]:
    """Return the rows as one array for each of their fields, named in the plural."""
    return {f"{field}s": list(column) for field, column in zip(kind._fields, zip(*rows, strict=True), strict=True)}


def _longest(groups: Sequence[Row[Any]]) -> int:
    """Return the number of values of the name that has most."""
    totals: dict[str, int] = {}
    for group in groups:
        totals[group.name] = totals.get(group.name, 0) + group.num_values
    return max(totals.values(), default=0)


def _joined(points: Sequence[MetricPoint], rows: Sequence[Any]) -> list[MetricPoint]:
    """Join to one point for each step, even if two attempts measured different names there, or one attempt measured
    twice."""
    by_step = {point.step: point for point in points}
    for step, attempt, number, at, names, values in rows:
        held = by_step[step].values if step in by_step else {}
        named = held | dict(zip(names, values, strict=True))
        # Not validated again: for two thousand points that is half of Python's time.
        by_step[step] = MetricPoint.model_construct(
            attempt=attempt, number=number, step=step, measured_at=at, values=named
        )
    return list(by_step.values())
