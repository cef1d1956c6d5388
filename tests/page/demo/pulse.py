"""Keeps the demonstration alive: workers send heartbeats, and running jobs measure steps, as a worker would write them.

A job stops one step before its end.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from redis import Redis
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import live_metrics
from app.db.session import Sessions, transaction
from app.db.tables import Job, MetricValue, Worker
from app.domain.events.job_events import CheckpointSaved, Evaluated, EventBody
from app.domain.jobs.state import JobState
from app.domain.metric import MetricPoint
from app.jobs.metrics.repository import MetricRepository
from app.jobs.repository import JobRepository
from tests.page.demo.curves import evaluate, evaluation_steps
from tests.page.demo.stories import STORIES, Story
from tests.page.demo.timeline import steps_of
from tests.page.demo.workers import MACHINES, ONLINE_FOR

HEARTBEAT_SECONDS = 10.0


@dataclass
class LiveJob:
    story: Story
    id: str
    step: int
    number: int
    """Counts the points of its attempt so far."""

    @property
    def is_over(self) -> bool:
        return self.step >= self.story.shape.total_steps - 1

    def advance(self, now: datetime) -> tuple[list[MetricPoint], list[EventBody]]:
        """Take a step; return its points and events."""
        self.step += 1
        events: list[EventBody] = []
        points = [self._point(now, steps_of(self.story.shape)[self.step - 1])]
        if self.step in evaluation_steps(self.story.shape):
            found = evaluate(self.story.shape, self.step)
            points.append(self._point(now, found))
            events.append(Evaluated(step=self.step, **found))
        if self.step % self.story.save_every == 0:
            events.append(CheckpointSaved(step=self.step))
        return points, events

    def _point(self, now: datetime, values: dict[str, float]) -> MetricPoint:
        self.number += 1
        attempt = len(self.story.legs)
        return MetricPoint(attempt=attempt, number=self.number, step=self.step, measured_at=now, values=values)


class Pulse:
    """Advances the running jobs of the demonstration by one step at a time."""

    def __init__(self, sessions: Sessions, redis_url: str, project_id: str, jobs: dict[str, str]) -> None:
        self._sessions, self._project_id = sessions, project_id
        self._redis: Redis = live_metrics.connect(redis_url)
        self.jobs = [self.follow(jobs[story.name]) for story in STORIES if story.state == JobState.running]

    def follow(self, job_id: str) -> LiveJob:
        """Return a job of the demonstration, or a copy of one, at its present step."""
        with transaction(self._sessions) as session:
            row = JobRepository(session).get(self._project_id, job_id)
            [story] = [story for story in STORIES if (row.name or "").startswith(story.name)]
            count = select(func.max(MetricValue.number)).where(
                MetricValue.job_id == job_id, MetricValue.attempt == row.attempt
            )
            return LiveJob(story, job_id, row.step, session.scalars(count).one() or 0)

    def beat(self, now: datetime) -> None:
        """Send the workers' heartbeats."""
        online = [id for id, machine in MACHINES.items() if not machine.silent_for]
        with transaction(self._sessions) as session:
            values = {"seen_at": now, "online_until": now + ONLINE_FOR}
            session.execute(update(Worker).where(Worker.id.in_(online)).values(values))

    def take_step(self, job: LiveJob) -> None:
        """Let a job take one step, unless it no longer runs: a user may have paused or cancelled it."""
        now = datetime.now(UTC)
        with transaction(self._sessions) as session:
            row = JobRepository(session).get(self._project_id, job.id, lock=True)
            if job.is_over or row.state != JobState.running:
                return
            points, events = job.advance(now)
            self._write(session, row, job, points, events)
        live_metrics.publish(self._redis, job.id, points)

    def _write(
        self, session: Session, row: Job, job: LiveJob, points: Sequence[MetricPoint], events: Sequence[EventBody]
    ) -> None:
        MetricRepository(session).add(self._project_id, job.id, points)
        shape = job.story.shape
        row.step = job.step
        for point in points:
            row.last_metrics = (row.last_metrics or {}) | point.values
        left = (shape.total_steps - job.step) * shape.seconds_per_step()
        row.estimated_finish_at = points[0].measured_at + timedelta(seconds=left)
        session.flush()
        JobRepository(session).append_events(row, events)

    def run(self, stop: threading.Event, step_seconds: float | None) -> None:
        """Go on until `stop` is set. `step_seconds` is the time of a step of every job; None keeps the jobs still."""
        beat_at = datetime.now(UTC)
        while not stop.wait(step_seconds or HEARTBEAT_SECONDS):
            now = datetime.now(UTC)
            if now >= beat_at:
                self.beat(now)
                beat_at = now + timedelta(seconds=HEARTBEAT_SECONDS)
            for job in self.jobs if step_seconds else ():
                self.take_step(job)

    def close(self) -> None:
        self._redis.close()


@contextmanager
def beating(pulse: Pulse, step_seconds: float | None = 1.0) -> Iterator[Pulse]:
    """Run the pulse in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=pulse.run, args=(stop, step_seconds), name="pulse")
    thread.start()
    try:
        yield pulse
    finally:
        stop.set()
        thread.join()
        pulse.close()
