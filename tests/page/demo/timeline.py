"""Builds what a story left behind: times, attempts, events, points and checkpoints. Pure functions only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

from app.domain.events.job_events import (
    AttemptFailed,
    AttemptLost,
    AttemptReleased,
    CancelRequested,
    CheckpointSaved,
    DatasetPrepared,
    DryRunPassed,
    EarlyStopped,
    Evaluated,
    EventBody,
    JobCancelled,
    JobClaimed,
    JobCreated,
    JobFailed,
    JobPaused,
    JobResumed,
    JobSucceeded,
    ModelLoaded,
    OutOfMemoryFallbackEvent,
    PauseRequested,
    PhaseChanged,
    ReferenceComputed,
    TrainingStarted,
)
from app.domain.jobs.state import FINAL, FailureReason, JobPhase, JobState
from app.domain.metric import MetricPoint
from tests.page.demo.curves import Shape, Values, describe, evaluate, evaluation_steps, measure_steps
from tests.page.demo.models import PARAMETERS
from tests.page.demo.stories import Leg, Story

PREPARING_SECONDS, EVALUATING_SECONDS, PUBLISHING_SECONDS = 26.0, 9.0, 6.0
LEASE_SECONDS = 60.0


@dataclass
class TimedAttempt:
    leg: Leg
    number: int
    started_at: datetime
    ended_at: datetime | None


@dataclass
class Course:
    """Is the course of one job, oldest first. Its times count from the creation until `settle` moves them."""

    created_at: datetime
    at: datetime
    """Is the time up to which it is built."""
    attempts: list[TimedAttempt] = field(default_factory=list)
    events: list[tuple[datetime, EventBody]] = field(default_factory=list)
    points: list[MetricPoint] = field(default_factory=list)
    checkpoints: list[tuple[int, int, datetime]] = field(default_factory=list)
    """Lists attempt, step and time."""
    latest: Values = field(default_factory=dict)

    def tell(self, *events: EventBody, seconds: float = 0.0) -> None:
        self.at += timedelta(seconds=seconds)
        self.events += [(self.at, event) for event in events]

    def move(self, by: timedelta) -> None:
        """Move all times."""
        self.created_at, self.at = self.created_at + by, self.at + by
        for attempt in self.attempts:
            attempt.started_at += by
            attempt.ended_at = attempt.ended_at + by if attempt.ended_at else None
        self.events = [(at + by, event) for at, event in self.events]
        self.points = [point.model_copy(update={"measured_at": point.measured_at + by}) for point in self.points]
        self.checkpoints = [(attempt, step, at + by) for attempt, step, at in self.checkpoints]


@cache
def steps_of(shape: Shape) -> Sequence[Values]:
    """Return the values of all steps, the first at index 0."""
    return tuple(measure_steps(shape))


def follow(story: Story, now: datetime) -> Course:
    """Build the course of a story that ends, or goes on, at its time."""
    course = Course(now, now)
    course.tell(JobCreated())
    for number, leg in enumerate(story.legs, start=1):
        run_attempt(course, story, leg, number)
    finish(course, story)
    end = now - timedelta(hours=story.hours_ago)
    course.move(end - course.at)
    return course


def run_attempt(course: Course, story: Story, leg: Leg, number: int) -> None:
    course.tell(JobClaimed(attempt=number, worker=leg.worker), seconds=leg.waited_minutes * 60)
    attempt = TimedAttempt(leg, number, course.at, None)
    course.attempts.append(attempt)
    prepare(course, story, leg, number)
    train(course, story, leg, number)
    if leg.outcome is None:
        return
    if leg.outcome == "lost":
        course.tell(AttemptLost(attempt=number), seconds=LEASE_SECONDS)
    elif leg.outcome == "released":
        course.tell(AttemptReleased(attempt=number), seconds=4)
    elif leg.outcome == "failed" and number < len(story.legs):
        assert story.failure
        reason, detail = story.failure
        course.tell(AttemptFailed(attempt=number, reason=reason, detail=detail), seconds=3)
    elif leg.outcome == "succeeded":
        course.tell(PhaseChanged(phase=JobPhase.publishing), seconds=1.5)
        course.tell(JobSucceeded(num_artifacts=6), seconds=PUBLISHING_SECONDS)
    attempt.ended_at = course.at


def prepare(course: Course, story: Story, leg: Leg, number: int) -> None:
    shape, total = story.shape, PARAMETERS[story.base_model]
    trainable = total if story.method == "full" else story.num_adapter_parameters(total)
    course.tell(PhaseChanged(phase=JobPhase.preparing), seconds=0.1)
    course.tell(DatasetPrepared(**describe(shape)), seconds=3.2)
    course.tell(ModelLoaded(num_parameters=total, num_trainable_parameters=trainable, seconds=11.4), seconds=11.4)
    peak = int(shape.memory_gb * 0.93e9)
    course.tell(DryRunPassed(num_tokens=4096, peak_memory_bytes=peak, seconds=2.7), seconds=2.7)
    if shape.objective == "dpo":
        done = shape.num_rows
        course.tell(ReferenceComputed(num_done=done // 2, num_rows=done, seconds=30.1), seconds=30.1)
        course.tell(ReferenceComputed(num_done=done, num_rows=done, seconds=60.4), seconds=30.3)
    if leg.start:
        course.tell(JobResumed(attempt=number, step=leg.start), seconds=0.4)
    claimed = course.attempts[-1].started_at
    since_claimed = (course.at - claimed).total_seconds()
    since_created = (course.at - course.created_at).total_seconds()
    course.tell(
        PhaseChanged(phase=JobPhase.training),
        TrainingStarted(
            attempt=number,
            seconds_since_created=round(since_created, 1),
            seconds_since_claimed=round(since_claimed, 1),
            parity_seconds=0.8,
            dry_run_seconds=2.7,
            used_standby_process=number > 1,
        ),
        seconds=0.2,
    )


def train(course: Course, story: Story, leg: Leg, number: int) -> None:
    """Measure the steps of an attempt, with its evaluations and checkpoints."""
    shape, all_values = story.shape, steps_of(story.shape)
    evaluations, count = set(evaluation_steps(shape)), 0
    tokens = 16_384
    for step in range(leg.start + 1, leg.last + 1):
        if step in leg.out_of_memory_at:
            tokens //= 2
            event = OutOfMemoryFallbackEvent(step=step, gradient_checkpointing=True, micro_batch_tokens=tokens)
            course.tell(event, seconds=1.9)
        values = all_values[step - 1]
        course.at += timedelta(seconds=shape.tokens_per_step / values["tokens_per_second"])
        count += 1
        measure(course, number, count, step, values)
        if step in evaluations:
            count += 1
            found = evaluate(shape, step)
            course.tell(Evaluated(step=step, **found), seconds=EVALUATING_SECONDS)
            measure(course, number, count, step, found)
        if step % story.save_every == 0:
            course.checkpoints.append((number, step, course.at))
            course.tell(CheckpointSaved(step=step), seconds=0.6)
    if story.stops_early:
        losses = {step: evaluate(shape, step)["validation_loss"] for step in evaluations if step <= leg.last}
        best = min(losses, key=losses.__getitem__)
        course.tell(EarlyStopped(step=leg.last, best_step=best, best_validation_loss=losses[best]))


def measure(course: Course, attempt: int, number: int, step: int, values: Values) -> None:
    course.points.append(MetricPoint(attempt=attempt, number=number, step=step, measured_at=course.at, values=values))
    course.latest = course.latest | values


def finish(course: Course, story: Story) -> None:
    """Add the events with which the story ends."""
    if story.state == JobState.pausing:
        course.tell(PauseRequested(), seconds=2)
    elif story.state == JobState.cancelling:
        course.tell(CancelRequested(), seconds=2)
    elif story.state == JobState.paused:
        course.tell(PauseRequested(), seconds=2)
        step = story.legs[-1].last
        course.checkpoints.append((len(story.legs), step, course.at))
        course.tell(CheckpointSaved(step=step), JobPaused(), seconds=3)
    elif story.state == JobState.cancelled:
        course.tell(CancelRequested(), seconds=2)
        course.tell(JobCancelled(), seconds=1.5)
    elif story.failure:
        reason, detail = story.failure
        course.tell(JobFailed(reason=FailureReason(reason), detail=detail), seconds=2.5)
    if course.attempts and (story.state in FINAL or story.state == JobState.paused):
        course.attempts[-1].ended_at = course.at
