"""Runs an attempt's trackers. A tracker never slows the training, and delays its end by a bounded time only."""

import time
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError

from app.domain.events.job_events import WarningIssued
from app.domain.integration import NEEDS, Integration, Tensorboard
from app.domain.jobs.spec import JobSpec
from app.domain.jobs.state import JobState
from app.jobs.queue.repository import Claim
from worker.attempt.fenced_writer import FencedWriter
from worker.attempt.trackers.feed import Tracker
from worker.host.hardware import find_integrations
from worker.tracking.protocol import Open

log = structlog.get_logger()

EVENTS_FILE: Final = "tensorboard.tfevents"
END_SECONDS: Final = 30.0
"""Limits the time for sending the remaining points after the training, and again for closing the trackers."""
DRAIN_SECONDS: Final = 5.0
"""Limits the time for closing the trackers when the worker is being drained."""


UNAFFECTED: Final = "The training is not affected, and GET /jobs/{id}/metrics returns all metrics."


class Trackers:
    def __init__(self, fence: FencedWriter, claim: Claim, folder: Path, kept: Path) -> None:
        """Set up the trackers. `kept` is the folder that outlasts the attempt; `wandb` inside it holds the folders of
        offline runs."""
        self._fence, self._claim = fence, claim
        self._folder, self._kept = folder / "trackers", kept
        self._live: list[Tracker] = []
        self._board: Tracker | None = None

    def start(self, spec: JobSpec) -> None:
        """Start the trackers that this worker supports. TensorBoard's file is written at the end."""
        served = find_integrations()
        for integration in spec.integrations:
            if integration.type not in served:
                self._warn("integration_unavailable", self._unavailable(integration))
            elif isinstance(integration, Tensorboard):
                self._board = self._tracker(integration, spec)
            else:
                self._live.append(self._tracker(integration, spec))
                self._live[-1].start()

    def settle(self, *, finished: bool) -> None:
        """Let the trackers receive the remaining points once all are stored, and stop those that do not finish in
        time."""
        if self._board is not None and finished:
            self._board.close(JobState.succeeded)
            self._board.start()
        for tracker in self._live:
            tracker.settle()
        until = time.monotonic() + END_SECONDS
        for tracker in self._live:
            if not tracker.has_settled(max(until - time.monotonic(), 0)):
                tracker.give_up()

    def events_file(self) -> Path | None:
        """Return TensorBoard's file if it was requested and could be written. There is no time limit while it makes
        progress."""
        if self._board is None or not self._board.has_ended() or self._board.failed:
            return None
        return self._folder / EVENTS_FILE

    def end(self, *, draining: bool) -> None:
        """Send the job's final state to the trackers and end them all."""
        if self._board is not None:
            self._board.give_up()
        state = self._state() if self._live else None
        for tracker in self._live:
            tracker.muted = True
            if state is not None:
                tracker.close(state)
        until = time.monotonic() + (DRAIN_SECONDS if draining else END_SECONDS)
        for tracker in self._live:
            if state is None or not tracker.has_ended(max(until - time.monotonic(), 0)):
                tracker.give_up()

    def _state(self) -> JobState | None:
        """Return the job's state; None if PostgreSQL is unreachable, or another attempt has the job."""
        try:
            return self._fence.run_once(lambda own: own.state(), "read_state")
        except DBAPIError:
            return None

    def _tracker(self, integration: Integration, spec: JobSpec) -> Tracker:
        project_id, job_id = self._claim[:2]
        asked = Open(
            integration=integration,
            job_id=job_id,
            name=spec.name or job_id,
            config=spec.model_dump(mode="json", exclude={"integrations"}),
            file=self._folder / EVENTS_FILE,
        )
        return Tracker(
            asked,
            self._folder / integration.type,
            self._kept,
            lambda after, limit: self._fence.run_once(
                lambda own: own.metrics.curve(project_id, job_id, [], after, limit), "feed_tracker"
            ),
            lambda why: self._warn(
                "tracker_failed", f"{integration.type} does not receive this job's metrics: {why}. {UNAFFECTED}"
            ),
        )

    def _unavailable(self, integration: Integration) -> str:
        type = integration.type
        return (
            f"This worker does not support {type}, so {type} receives no metrics of this attempt. {NEEDS[type].remedy}"
        )

    def _warn(self, code: str, detail: str) -> None:
        self._fence.write(lambda own: own.append_event(WarningIssued(code=code, detail=detail)), "append_event")
