"""Writes `step_metrics.csv`: a job's losses and accuracies by step, in the format of OpenAI's result files."""

from functools import partial
from pathlib import Path
from typing import Final

from app.jobs.attempts.service import AttemptService
from app.jobs.metrics.curve import Span, windows
from app.jobs.metrics.queries import STEP_METRICS as COLUMNS
from app.jobs.queue.repository import Claim
from worker.attempt.fenced_writer import FencedWriter

STEP_METRICS: Final = "step_metrics.csv"
WINDOW_STEPS: Final = 50_000
"""Limits the steps held in memory at once."""


def write_step_metrics(path: Path, fence: FencedWriter, claim: Claim) -> None:
    """Write the curves from PostgreSQL in windows of steps, and wait while PostgreSQL is unreachable."""
    spans = fence.write(lambda own: own.metrics.spans(*claim[:2], list(COLUMNS.values())), "read_curves")
    with path.open("wb") as file:
        file.write(f"{','.join(('step', *COLUMNS))}\n".encode())
        if not spans:
            return
        whole = Span(0, "", min(span.first for span in spans), max(span.last for span in spans))
        for window in windows(whole, WINDOW_STEPS):
            file.write(fence.write(partial(_lines, claim=claim, spans=spans, window=window), "read_curves"))


def _lines(own: AttemptService, claim: Claim, spans: list[Span], window: Span) -> bytes:
    return own.metrics.by_step(*claim[:2], spans, window.first, window.last)
