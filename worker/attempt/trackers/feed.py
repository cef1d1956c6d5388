"""Feeds one tracker from a thread: reads the curve from PostgreSQL step by step and sends it to a tracking process.

The tracker reports the last step that it has, so that a dead process, an outage or a new attempt causes neither gaps
nor repeated steps. A step is complete once a later one exists or the training has ended."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError

from app.db.session import is_outage
from app.domain.jobs.state import JobState
from app.domain.metric import MetricPoint
from app.errors import StaleAttempt
from app.jitter import jittered
from worker.processes.tracking import TrackerFailed, TrackingProcess
from worker.tracking.protocol import CloseRun, Open, Step, Steps

log = structlog.get_logger()

EVERY_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 30.0
LONGEST_RETRY_SECONDS: Final = 600.0
PAGE_STEPS: Final = 200


class Tracker:
    def __init__(
        self,
        asked: Open,
        folder: Path,
        kept: Path,
        read: Callable[[int, int], Sequence[MetricPoint]],
        warn: Callable[[str], None],
    ) -> None:
        """Set up the feed. `read` returns at most the given number of points after a step; `warn` records a warning for
        the job's user."""
        self.type = asked.integration.type
        self.failed = False
        """Says whether the feed has given up."""
        self.muted = False
        """Says whether the job has ended, so that no more warnings are recorded."""
        self._asked, self._folder, self._kept = asked, folder, kept
        self._read, self._warn = read, warn
        self._process: TrackingProcess | None = None
        self._news, self._settling, self._settled = threading.Event(), threading.Event(), threading.Event()
        self._state: JobState | None = None
        self._warned = False
        self._thread = threading.Thread(target=self._run, name=f"tracker-{self.type}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def settle(self) -> None:
        """Announce that no more points will follow, so that the last step is complete."""
        self._settling.set()
        self._news.set()

    def has_settled(self, seconds: float) -> bool:
        """Return whether, within the given seconds, the tracker received everything or failed."""
        return self._settled.wait(seconds)

    def close(self, state: JobState) -> None:
        """Report the job's state to the tracker after all points."""
        self._state = state
        self.settle()

    def has_ended(self, seconds: float | None = None) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """Stop the tracker at once."""
        self.failed = True
        self.settle()
        if self._process is not None:
            self._process.kill()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        wait = RETRY_SECONDS
        try:
            while not self.failed:
                is_last = self._settling.is_set()
                try:
                    return self._track()
                except (TrackerFailed, OSError) as error:
                    self.failed = self.failed or is_last
                    self._report_failure(error)
                if not self._settling.is_set():
                    self._news.wait(jittered(wait))
                wait = min(2 * wait, LONGEST_RETRY_SECONDS)
        except StaleAttempt:
            self.failed = True
        except Exception:
            log.exception("a tracker failed with an internal error", job=self._asked.job_id, tracker=self.type)
            self.failed = True
        finally:
            self._settled.set()

    def _track(self) -> None:
        self._process = process = TrackingProcess(self.type, self._folder, self._kept)
        try:
            if self.failed:
                return
            last = process.ask(self._asked).last_step
            self._feed(process, -1 if last is None else last)
        finally:
            process.end()

    def _feed(self, process: TrackingProcess, last: int) -> None:
        while not self.failed:
            state, whole = self._state, self._settling.is_set()
            points = self._points(last, whole=whole)
            if points:
                process.ask(
                    Steps(steps=[Step(step=p.step, at=p.measured_at.timestamp(), values=p.values) for p in points])
                )
                last = points[-1].step
                continue
            if points is not None and state is not None:
                process.ask(CloseRun(state=state))
                return
            if points is not None and whole:
                self._settled.set()
            self._news.wait(EVERY_SECONDS)
            self._news.clear()

    def _points(self, last: int, *, whole: bool) -> Sequence[MetricPoint] | None:
        """Return the complete steps after `last`; None while PostgreSQL is unreachable."""
        try:
            points = self._read(last, PAGE_STEPS + 1)
        except DBAPIError as error:
            if not is_outage(error):
                raise
            return None
        return points if whole and len(points) <= PAGE_STEPS else points[:-1]

    def _report_failure(self, error: Exception) -> None:
        log.warning("a tracker failed", job=self._asked.job_id, tracker=self.type, why=str(error))
        if not self._warned and not self.muted:
            self._warned = True
            self._warn(str(error))
