"""Accepts a worker's reports about the attempt that it holds. Every report is fenced: on StaleAttempt the worker stops
and releases the attempt."""

import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app.adapters.service import AdapterService
from app.db.tables import Checkpoint, Job
from app.domain.artifact import ArtifactKind, StoredFile
from app.domain.events.job_events import (
    AttemptFailed,
    AttemptReleased,
    CheckpointSaved,
    EventBody,
    JobCancelled,
    JobFailed,
    JobPaused,
    JobResumed,
    JobSucceeded,
    PhaseChanged,
    TrainingStarted,
    WarningIssued,
)
from app.domain.jobs.model_names import fine_tuned_name
from app.domain.jobs.resuming import InexactResume
from app.domain.jobs.spec import JobSpec
from app.domain.jobs.state import HELD, NEVER_RETRIED, FailureReason, JobPhase, JobState
from app.domain.metric import MetricPoint
from app.errors import StaleAttempt
from app.jobs.attempts.repository import AttemptRepository
from app.jobs.checkpoints.repository import CheckpointRepository
from app.jobs.metrics.repository import MetricRepository
from app.jobs.queue.repository import Claim
from app.jobs.repository import JobRepository
from app.jobs.transitions import JobTransitions
from app.outbox import enqueue_wakeup

RUNNING = (JobState.running, JobState.pausing)
"""Lists the states in which an attempt may still succeed or fail."""


def proof_of(claim: Claim) -> str:
    """Return a proof that points on a disk belong to a claim, without the token that would allow writes for it."""
    words = f"points {claim.project_id}/{claim.job_id}/{claim.attempt}"
    return hmac.new(claim.token.encode(), words.encode(), "sha256").hexdigest()


class AttemptService:
    def __init__(self, session: Session, claim: Claim) -> None:
        self.session = session
        self.claim = claim
        self.attempts = AttemptRepository(session, claim)
        self.jobs = JobRepository(session)
        self.transitions = JobTransitions(session)
        self.stored = CheckpointRepository(session)
        self.metrics = MetricRepository(session)

    def state(self) -> JobState | None:
        """Return the job's state while it is held by the attempt, else None."""
        return self.attempts.find_state()

    def enter(self, phase: JobPhase) -> None:
        self.jobs.append_events(self.attempts.set_phase(phase), [PhaseChanged(phase=phase)])

    def append_event(self, *events: EventBody) -> None:
        self._write_job(events)

    def append_event_once(self, event: EventBody) -> None:
        """Append the event, unless this attempt or an earlier one has already appended it."""
        if not self.jobs.has_event(self.claim.project_id, self.claim.job_id, event):
            self._write_job([event])

    def plan(
        self,
        resolved: dict[str, Any],
        total_steps: int,
        start_step: int,
        inexact_resumes: Sequence[InexactResume] = (),
    ) -> None:
        """Store the attempt's decisions; an attempt that resumes from a checkpoint states the step, and how exactly it
        resumes."""
        is_first = self.claim.attempt == 1 and start_step == 0
        resumed = [] if is_first else [JobResumed(attempt=self.claim.attempt, step=start_step)]
        inexact = [each.model_dump(mode="json") for each in inexact_resumes]
        self._write_job(resumed, total_steps=total_steps, step=start_step, inexact_resumes=inexact)
        self.attempts.update_attempt(start_step=start_step, resolved=resolved)

    def replan(self, resolved: dict[str, Any]) -> None:
        """Store the new decisions, after memory did not suffice for the first ones."""
        self._write_job([])
        self.attempts.update_attempt(resolved=resolved)

    def training_started(self, parity_seconds: float, dry_run_seconds: float, used_standby_process: bool) -> None:
        """Record how long the job waited for its first training forward pass, in total and on this worker."""
        since_created, since_claimed = self.attempts.get_ages()
        self.append_event(
            TrainingStarted(
                attempt=self.claim.attempt,
                seconds_since_created=round(since_created.total_seconds(), 3),
                seconds_since_claimed=round(since_claimed.total_seconds(), 3),
                parity_seconds=parity_seconds,
                dry_run_seconds=dry_run_seconds,
                used_standby_process=used_standby_process,
            )
        )

    def record(self, points: Sequence[MetricPoint], estimated_finish_at: datetime | None) -> None:
        """Store metric points, and show the latest of each name on the job."""
        latest: dict[str, float] = {}
        for point in points:
            latest |= point.values
        self.attempts.record_progress(max(point.step for point in points), latest, estimated_finish_at)
        self.metrics.add(self.claim.project_id, self.claim.job_id, points)

    def record_late(self, points: Sequence[MetricPoint], proof: str) -> bool:
        """Store points of an attempt whose worker is dead. This is not fenced by the job: the points belong to the
        attempt, whichever attempt runs the job now, and the job itself does not show them. Return False and store
        nothing if the job was deleted or `proof` is not `proof_of` the attempt's claim; points of another attempt are
        left out."""
        token = self.attempts.lock_claim_token()
        if token is None or not hmac.compare_digest(proof_of(self.claim._replace(token=token)), proof):
            return False
        own = [point for point in points if point.attempt == self.claim.attempt]
        if own:
            self.metrics.add(self.claim.project_id, self.claim.job_id, own)
        return True

    def seconds_left(self) -> float | None:
        """Return the rest of the job's running time in seconds; None without a limit."""
        return self.attempts.find_seconds_left()

    def keep_log(self, tail: str) -> None:
        """Store the log's tail. Not fenced: the log belongs to the attempt, whichever attempt runs the job now. NUL is
        removed, because PostgreSQL does not store it in text."""
        self.attempts.update_attempt(log_tail=tail.replace("\0", "\ufffd"))

    def request_orphan_collection(self) -> None:
        """Request orphan collection. Not fenced: the worker that lost the attempt may have stored bytes after the
        collector visited it."""
        self.attempts.update_attempt(orphans_collected_at=None)

    def save_checkpoint(self, step: int, files: Sequence[StoredFile], revision: str, machine: str) -> None:
        """Add the checkpoint, and remove older ones than the spec keeps, unless a job starts from them. Repeating the
        call is harmless. `revision` is the base model's, `machine` the fingerprint of the machines on which it resumes
        exactly."""
        job = self._write_job([CheckpointSaved(step=step)], resume_machine=machine)
        self.stored.add(job.project_id, job.id, self.claim.attempt, step, files, revision, machine)
        keep = JobSpec.model_validate(job.spec).training.keep_checkpoints
        self.stored.delete_unused(self.checkpoints()[keep:])

    def checkpoints(self) -> Sequence[Checkpoint]:
        """Return the checkpoints of all attempts, the highest step first."""
        return self.stored.of_job(self.claim.project_id, self.claim.job_id)

    def resumable(self, job: Job) -> Sequence[Checkpoint]:
        """Return the job's own checkpoints, the highest step first; then the earlier job's checkpoint from which a
        retry continues."""
        earlier = self.stored.find(job.project_id, job.resume_from) if job.resume_from else None
        return [*self.checkpoints(), *([earlier] if earlier else [])]

    def give_up_checkpoint(self, number: int, step: int) -> None:
        """Remove the checkpoint of attempt `number`: storage no longer has it as it was written."""
        text = (
            f"The checkpoint at step {step} is missing from storage or was altered there; looking for an earlier one."
        )
        self._write_job([WarningIssued(code="checkpoint_lost", detail=text)])
        checkpoints = self.checkpoints()
        lost = [found for found in checkpoints if (found.attempt, found.step) == (number, step)]
        self.stored.mark_deleted(lost)
        left = [found for found in checkpoints if found not in lost]
        self._write_job([], resume_machine=left[0].machine_fingerprint if left else None)

    def publish(
        self,
        manifest: dict[str, Any],
        files: Sequence[StoredFile],
        archive: StoredFile | None,
        reports: Sequence[StoredFile] = (),
    ) -> None:
        """Make the stored files the job's result and set the job to succeeded, in one transaction; only the first
        caller wins.

        An adapter has an archive; a fully fine-tuned model has none. A report's name is its kind.
        """
        count = len(files) + (archive is not None) + len(reports)
        job = self._end(JobState.succeeded, "succeeded", [JobSucceeded(num_artifacts=count)])
        adapters = AdapterService(self.session)
        owner = (self.claim.project_id, self.claim.job_id, self.claim.attempt)
        for report in reports:
            adapters.publish_files(*owner, kind=ArtifactKind(report.path.partition(".")[0]), files=[report])
        if archive is None:
            adapters.publish_files(*owner, kind=ArtifactKind.model, files=files)
        else:
            name = fine_tuned_name(job)
            adapters.publish(
                *owner, name=name, base_model=job.base_model, manifest=manifest, files=files, archive=archive
            )

    def fail(self, reason: FailureReason, message: str) -> None:
        """End the attempt as failed. While the budget of failures lasts, the job moves to its last requested state;
        otherwise it fails. This includes a job that a user has queued or paused during the attempt, which then
        yields."""
        job = self.attempts.lock_job()
        again = AttemptFailed(attempt=self.claim.attempt, reason=reason, detail=message)
        failed_attempts = job.failed_attempts + 1
        state = JobState(job.state)
        if reason in NEVER_RETRIED or failed_attempts > job.spec["max_retries"]:
            self._fail_for_good(state, reason, message, failed_attempts)
        elif state not in HELD:
            job.failed_attempts = failed_attempts
            self._release(job, "failed", again)
        elif state is JobState.pausing:
            self._end(JobState.paused, "failed", [again, JobPaused()], failed_attempts=failed_attempts)
        else:
            self._end(JobState.queued, "failed", [again], failed_attempts=failed_attempts)
            enqueue_wakeup(self.session, self.claim.project_id, "training")

    def _fail_for_good(self, state: JobState, reason: FailureReason, message: str, failed_attempts: int) -> None:
        if state is JobState.paused:
            # A paused job cannot fail; it is queued for that, within this transaction.
            self._move(JobState.queued, [], sources=[state])
        self._end(
            JobState.failed,
            "failed",
            [JobFailed(reason=reason, detail=message)],
            sources=[*RUNNING, JobState.queued],
            failed_attempts=failed_attempts,
            failure_reason=reason,
            failure_message=message,
        )

    def release(self) -> None:
        """Release the job without counting a loss or a failure. It moves to its last requested state."""
        job = self.attempts.lock_job()
        released = AttemptReleased(attempt=self.claim.attempt)
        match JobState(job.state):
            case JobState.running:
                self._end(JobState.queued, "released", [released])
                enqueue_wakeup(self.session, self.claim.project_id, "training")
            case JobState.pausing:
                self._end(JobState.paused, "paused", [JobPaused()])
            case JobState.cancelling:
                self._end(JobState.cancelled, "cancelled", [JobCancelled()], sources=[JobState.cancelling])
            case _:
                self._release(job, "released", released)

    def _release(self, job: Job, outcome: str, event: EventBody) -> None:
        self.jobs.release_attempt(job, [event])
        self._end_attempt(outcome)
        enqueue_wakeup(self.session, self.claim.project_id, "training")

    def _end(
        self,
        target: JobState,
        outcome: str,
        events: Sequence[EventBody],
        sources: Sequence[JobState] = RUNNING,
        **values: Any,
    ) -> Job:
        job = self._move(target, events, sources, phase=None, **values)
        self._end_attempt(outcome)
        return job

    def _end_attempt(self, outcome: str) -> None:
        self.jobs.end_attempt(self.claim.project_id, self.claim.job_id, self.claim.attempt, outcome)

    def _move(self, target: JobState, events: Sequence[EventBody], sources: Sequence[JobState], **values: Any) -> Job:
        project_id, job_id, attempt, token = self.claim
        job = self.transitions.move_job(
            project_id, job_id, fence=attempt, sources=sources, target=target, events=events, **values
        )
        if job.claim_token != token:
            raise StaleAttempt
        return job

    def _write_job(self, events: Sequence[EventBody], **values: Any) -> Job:
        job = self.attempts.update_job(**values)
        self.jobs.append_events(job, events)
        return job
