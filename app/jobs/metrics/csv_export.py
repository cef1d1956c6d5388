"""Metric values as CSV, written while they are read: memory holds one window of steps.

Each window is a short transaction of its own, so that no connection waits for a slow reader. Values never change once
they are stored: the file is what was there when its spans were looked up.
"""

from collections.abc import Iterable, Iterator

from app.db.session import Sessions, transaction
from app.jobs.metrics.curve import Span, windows
from app.jobs.metrics.queries import EXPORT_COLUMNS
from app.jobs.metrics.repository import MetricRepository
from app.jobs.repository import JobRepository

WINDOW_STEPS = 50_000


def read_windows(sessions: Sessions, project_id: str, job_id: str, spans: Iterable[Span]) -> Iterator[bytes]:
    """Lines of CSV, span by span. JobNotFound in the middle, should the job be deleted: an answer that breaks off
    shows that something is missing, where a short one would not."""
    for span in spans:
        for window in windows(span, WINDOW_STEPS):
            with transaction(sessions, "export_metrics") as session:
                JobRepository(session).get(project_id, job_id)
                lines = MetricRepository(session).export(project_id, job_id, window)
            if lines:
                yield lines


def as_csv(lines: Iterable[bytes]) -> Iterator[bytes]:
    yield f"{','.join(EXPORT_COLUMNS)}\n".encode()
    yield from lines
