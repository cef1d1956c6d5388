"""Writes metric values as CSV while reading them: memory holds one window of steps.

Each window is a short separate transaction, so that no connection waits for a slow reader. Values never change once
they are stored: the file contains what existed when its spans were read.
"""

from collections.abc import Iterable, Iterator

from app.db.session import Sessions, transaction
from app.jobs.metrics.curve import Span, windows
from app.jobs.metrics.queries import EXPORT_COLUMNS
from app.jobs.metrics.repository import MetricRepository
from app.jobs.repository import JobRepository

WINDOW_STEPS = 50_000


def read_windows(sessions: Sessions, project_id: str, job_id: str, spans: Iterable[Span]) -> Iterator[bytes]:
    """Yield lines of CSV, span by span. Raise JobNotFound if the job is deleted during the export: a broken answer
    shows that something is missing, a short one would not."""
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
