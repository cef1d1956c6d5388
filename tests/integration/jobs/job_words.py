"""What a worker may report and a user may request, each with its effect on the model."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from app.domain.artifact import StoredFile
from app.domain.events.job_events import WarningIssued
from app.domain.hardware import machine_fingerprint
from app.domain.jobs.state import FailureReason, JobPhase, JobState
from app.domain.metric import MetricPoint
from app.errors import JobAlreadyCancelling, JobAlreadyPaused, JobFinished, JobNotFinished, JobNotPaused
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.service import JobService
from tests.integration.jobs.job_model import FINAL, MAY_FAIL, MAY_SUCCEED, ModelJob

NOT_FINAL = [str(state) for state in JobState if state not in FINAL]
PATHS = ("a.safetensors", "all.tar", "b.json")
"""The second is the archive."""


class Word(NamedTuple):
    """A worker's report about its attempt; some carry a step."""

    send_report: Callable[[AttemptService, int], object]
    apply: Callable[[ModelJob, int], object]
    states: tuple[str, ...] = ()
    """The states in which the report is accepted; if empty, every state in which the attempt holds the job."""


def points(claim: Claim, step: int, value: float) -> list[MetricPoint]:
    """Return one point twice, as a worker that sends it again does."""
    return 2 * [
        MetricPoint(
            attempt=claim.attempt, number=step, step=step, measured_at=datetime.now(UTC), values={"loss": value}
        )
    ]


def save_checkpoint(attempt: AttemptService, step: int) -> None:
    attempt.save_checkpoint(step, [stored(attempt.claim, f"checkpoints/{step}")], "1" * 64, machine_fingerprint({}))


def publish(attempt: AttemptService, step: int) -> None:
    """Publish an adapter's files with their archive at an even step, and a model's files alone at an odd one."""
    first, archive, last = (stored(attempt.claim, path) for path in PATHS)
    attempt.publish({}, [first, last], None if step % 2 else archive)


def stored(claim: Claim, path: str) -> StoredFile:
    key = f"{claim.project_id}/jobs/{claim.job_id}/{claim.attempt}/{path}"
    return StoredFile(path=path, key=key, size=1, sha256="0" * 64)


WORDS: Mapping[str, Word] = {
    "enter": Word(
        lambda attempt, _: attempt.enter(JobPhase.training),
        lambda job, _: job.history.append("phase_changed"),
    ),
    "append_event": Word(
        lambda attempt, _: attempt.append_event(WarningIssued(code="odd", detail="Something is odd.")),
        lambda job, _: job.history.append("warning_issued"),
    ),
    "training_started": Word(
        lambda attempt, _: attempt.training_started(0.1, 0.1, used_standby_process=False),
        lambda job, _: job.history.append("training_started"),
    ),
    "plan": Word(
        lambda attempt, step: attempt.plan({}, total_steps=9, start_step=step),
        lambda job, step: job.plan(step),
    ),
    "record": Word(
        lambda attempt, step: attempt.record(points(attempt.claim, step, 1), None),
        lambda job, step: job.record(step, 1),
    ),
    "record otherwise": Word(
        lambda attempt, step: attempt.record(points(attempt.claim, step, 2), None),
        lambda job, step: job.record(step, 2),
    ),
    "save_checkpoint": Word(save_checkpoint, lambda job, step: job.save_checkpoint(step)),
    "give_up_checkpoint": Word(
        lambda attempt, step: attempt.give_up_checkpoint(1, step),
        lambda job, step: job.give_up_checkpoint(1, step),
    ),
    "publish": Word(
        publish,
        lambda job, step: job.publish([path for path in PATHS if step % 2 == 0 or path != "all.tar"]),
        MAY_SUCCEED,
    ),
    "fail": Word(
        lambda attempt, _: attempt.fail(FailureReason.non_finite_loss, "The loss is NaN."),
        lambda job, _: job.fail("non_finite_loss"),
        MAY_FAIL,
    ),
    "release": Word(lambda attempt, _: attempt.release(), lambda job, _: job.release()),
}


class Wish(NamedTuple):
    ask: Callable[[JobService, str, str], object]
    apply: Callable[[ModelJob], object]
    refusals: Mapping[str, type[Exception]]
    """By the state in which the request is refused."""


ENDED = dict.fromkeys(FINAL, JobFinished) | {"cancelling": JobAlreadyCancelling}

WISHES: Mapping[str, Wish] = {
    "cancel": Wish(JobService.cancel, ModelJob.cancel, ENDED),
    "pause": Wish(JobService.pause, ModelJob.pause, ENDED | dict.fromkeys(("pausing", "paused"), JobAlreadyPaused)),
    "resume": Wish(JobService.resume, ModelJob.resume, ENDED | dict.fromkeys(("queued", "running"), JobNotPaused)),
    "delete": Wish(JobService.delete, ModelJob.delete, dict.fromkeys(NOT_FINAL, JobNotFinished)),
}
