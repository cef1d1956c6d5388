"""Provides the queue to workers and recovery: claims, leases, and the recovery of lost jobs."""

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.datasets.service import DatasetService
from app.db.tables import Job
from app.domain.events.job_events import (
    AttemptLost,
    AttemptRecovered,
    EventBody,
    JobCancelled,
    JobClaimed,
    JobFailed,
    JobPaused,
)
from app.domain.hardware import WorkerHardware
from app.domain.jobs.state import LAPSE, MAX_LOST_ATTEMPTS, MAX_LOST_ATTEMPTS_WITHOUT_PROGRESS, FailureReason, JobState
from app.errors import StaleAttempt
from app.jobs.queue.deadline import SPENT
from app.jobs.queue.repository import (
    RECOVERY_PARTS,
    Claim,
    QueueRepository,
    RecoveryPart,
    values_of_claim,
    values_of_recovery,
)
from app.jobs.repository import JobRepository
from app.jobs.transitions import JobTransitions
from app.set_aside import STRICT, SetAside


class QueueService:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.queue = QueueRepository(session)
        self.jobs = JobRepository(session)
        self.transitions = JobTransitions(session)

    def claim(self, machine: WorkerHardware, lease_seconds: float, exact_resume_wait_seconds: float = 60) -> Job | None:
        """Claim the most urgent job that fits the machine, with a new attempt; None if none waits. A job whose
        checkpoint resumes exactly elsewhere waits for such a worker first, for this many seconds or without limit."""
        self.queue.lock_claims()
        job = self.queue.lock_next_job(machine, exact_resume_wait_seconds)
        if job is None:
            return None
        claim = Claim(job.project_id, job.id, job.attempt + 1, secrets.token_hex(16))
        self.queue.add_attempt(claim, machine.worker_id)
        return self.transitions.move_job(
            job.project_id,
            job.id,
            fence=job.attempt,
            sources=[JobState.queued],
            target=JobState.running,
            events=[JobClaimed(attempt=claim.attempt, worker=machine.worker_id)],
            **values_of_claim(claim, machine.worker_id, lease_seconds),
        )

    def renew(self, claim: Claim, lease_seconds: float) -> JobState:
        """Renew the lease and return the job's state, which may be a requested one; raise StaleAttempt if the
        attempt can no longer hold the job."""
        return self.queue.renew_lease(claim, lease_seconds) or self._recover_attempt(claim, lease_seconds)

    def _recover_attempt(self, claim: Claim, lease_seconds: float) -> JobState:
        """Give an expired attempt back to its worker if no other attempt has replaced it; the loss is not counted.

        Raise StaleAttempt also if other jobs have filled the project's limit since.
        """
        self.queue.lock_claims()
        worker_id = self.queue.lock_expired_job(claim)
        if worker_id is None:
            raise StaleAttempt
        self.jobs.end_attempt(claim.project_id, claim.job_id, claim.attempt, None)
        job = self.transitions.move_job(
            claim.project_id,
            claim.job_id,
            fence=claim.attempt,
            sources=[JobState.queued],
            target=JobState.running,
            events=[AttemptRecovered(attempt=claim.attempt)],
            **values_of_recovery(worker_id, lease_seconds),
        )
        return JobState(job.state)

    def recover_lost_work(self, parts: Sequence[RecoveryPart] = RECOVERY_PARTS, aside: SetAside = STRICT) -> list[Job]:
        """Move on every job whose lease has expired, whether it is held or its attempt yields, and fail queued jobs
        whose dataset is unusable or whose running time is used up. A job that cannot be moved is set aside."""
        moves = {
            "expired": self._end_lost_attempt,
            "yielding": self._release_lost_attempt,
            "doomed": self._fail_unusable,
            "late": self._fail_overdue,
        }
        moved: list[Job] = []
        for part in parts:
            for job in self.queue.lock_jobs_to_move(part, aside.ids("jobs")):
                with aside.guard("jobs", job.id, self.session):
                    done = moves[part](job)
                    self.session.flush()
                    moved.append(done)
        return moved

    def _end_lost_attempt(self, job: Job) -> Job:
        start = self.queue.find_start_step(job)
        self.jobs.end_attempt(job.project_id, job.id, job.attempt, "lost")
        progressed = start is not None and job.step > start
        fruitless = 0 if progressed else job.lost_attempts_without_progress + 1
        target = LAPSE[JobState(job.state)]
        events: list[EventBody] = [AttemptLost(attempt=job.attempt)]
        values: dict[str, Any] = {"lost_attempts": job.lost_attempts + 1, "lost_attempts_without_progress": fruitless}
        if target is JobState.queued and (
            fruitless >= MAX_LOST_ATTEMPTS_WITHOUT_PROGRESS or job.lost_attempts + 1 > MAX_LOST_ATTEMPTS
        ):
            target = JobState.failed
            lost = job.lost_attempts + 1
            why = f"The job lost {lost} workers, {fruitless} in a row without completing a step."
            events.append(JobFailed(reason=FailureReason.crash_loop, detail=why))
            values |= {"failure_reason": FailureReason.crash_loop, "failure_message": why}
        elif target is JobState.cancelled:
            events.append(JobCancelled())
        elif target is JobState.paused:
            events.append(JobPaused())
        return self.transitions.move_job(
            job.project_id,
            job.id,
            fence=job.attempt,
            sources=[JobState(job.state)],
            target=target,
            events=events,
            lease_expired=target is JobState.queued,
            phase=job.phase if target is JobState.queued else None,
            **values,
        )

    def _release_lost_attempt(self, job: Job) -> Job:
        """Release a job whose yielding attempt no longer answers. The attempt was to stop, so no loss is counted."""
        self.jobs.end_attempt(job.project_id, job.id, job.attempt, "lost")
        return self.jobs.release_attempt(job, [AttemptLost(attempt=job.attempt)])

    def _fail_unusable(self, job: Job) -> Job:
        reason, why = DatasetService(self.session).why_refused(job.project_id, job.id, job.spec["objective"])
        return self._fail_queued(job, FailureReason(reason), why)

    def _fail_overdue(self, job: Job) -> Job:
        return self._fail_queued(job, FailureReason.deadline_exceeded, SPENT)

    def _fail_queued(self, job: Job, reason: FailureReason, why: str) -> Job:
        return self.transitions.move_job(
            job.project_id,
            job.id,
            fence=job.attempt,
            sources=[JobState.queued],
            target=JobState.failed,
            events=[JobFailed(reason=reason, detail=why)],
            failure_reason=reason,
            failure_message=why,
        )

    def projects_with_work(self) -> Sequence[str]:
        """Return the projects with a job that waits only for a worker."""
        return self.queue.projects_with_work()
