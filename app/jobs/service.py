"""Implements the actions of a user on jobs."""

from typing import Any

from sqlalchemy.orm import Session

from app.datasets.service import DatasetService
from app.db.tables import Checkpoint, Job
from app.domain.events.job_events import (
    CancelRequested,
    EventBody,
    JobCancelled,
    JobCreated,
    JobPaused,
    PauseRequested,
    ResumeRequested,
)
from app.domain.ids import new_id
from app.domain.jobs.spec import JobSpec
from app.domain.jobs.state import FINAL, JobState
from app.errors import (
    InvalidSpec,
    JobAlreadyCancelling,
    JobAlreadyPaused,
    JobFinished,
    JobNotFinished,
    JobNotPaused,
    NoCheckpoint,
)
from app.jobs.checkpoints.repository import CheckpointRepository
from app.jobs.repository import JobRepository
from app.jobs.retrying import apply_changes, check_loadable
from app.jobs.shown import find_shown
from app.jobs.spec_validation import SpecCheck
from app.jobs.transitions import JobTransitions
from app.jobs.wait_reason import Waiting, waiting
from app.outbox import enqueue_wakeup


class JobService:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.jobs = JobRepository(session)
        self.transitions = JobTransitions(session)

    def submit(self, project_id: str, raw: object, key_id: str | None = None) -> Job:
        """Accept a JobSpec as JSON from the owner of a key, or raise InvalidSpec with every invalid field. Job, event
        and wake-up are one write."""
        check = SpecCheck(self.session, project_id)
        return self._queue(project_id, check.check(raw), check.init_from_id, key_id)

    def _queue(
        self,
        project_id: str,
        spec: JobSpec,
        init_from_id: str | None,
        key_id: str | None,
        retry_of: str | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Job:
        job = Job(
            id=new_id("ftjob"),
            project_id=project_id,
            name=spec.name,
            state=JobState.queued,
            priority=spec.priority,
            base_model=spec.base_model,
            method=spec.method,
            spec=spec.model_dump(mode="json"),
            metadata_=spec.metadata,
            min_memory_gb=spec.resources.min_memory_gb,
            device=spec.resources.device,
            gpu=list(spec.resources.gpu),
            labels=dict(spec.resources.labels),
            retry_of=retry_of,
            created_by_key_id=key_id,
            init_from_id=init_from_id,
            resume_from=checkpoint.id if checkpoint else None,
            resume_machine=checkpoint.machine_fingerprint if checkpoint else None,
        )
        self.jobs.add(job, JobCreated(retry_of=retry_of, resume_step=checkpoint.step if checkpoint else None))
        datasets = DatasetService(self.session)
        tolerated = spec.on_bad_rows.tolerated
        datasets.use(project_id, spec.dataset_id, job.id, "training", tolerated)
        if spec.validation_dataset_id:
            datasets.use(project_id, spec.validation_dataset_id, job.id, "validation", tolerated)
        enqueue_wakeup(self.session, project_id, "training")
        return job

    def validate(self, project_id: str, raw: object) -> tuple[JobSpec, Waiting]:
        """Return the filled spec, and what its job would wait for, or raise InvalidSpec; nothing is created.

        The job is submitted and the transaction rolled back, so that a spec is valid here exactly if a POST accepts it.
        The session cannot be used afterwards.
        """
        job = self.submit(project_id, raw)
        self.session.flush()
        connection = self.session.connection()
        shown = find_shown(connection, project_id, job.id)
        assert shown.standing
        spec, waits = JobSpec.model_validate(job.spec), waiting(connection, shown.job, shown.standing)
        self.session.rollback()
        return spec, waits

    def get(self, project_id: str, id: str) -> Job:
        return self.jobs.get(project_id, id)

    def cancel(self, project_id: str, id: str) -> Job:
        """Cancel a job at once if no worker runs it; otherwise request that it stops."""
        job, state = self._locked(project_id, id)
        if state in (JobState.running, JobState.pausing):
            return self._move(job, JobState.cancelling, CancelRequested())
        if job.lease_until is not None:
            # Its attempt yields, and will find nothing left to release.
            self.jobs.end_attempt(project_id, id, job.attempt, "cancelled")
        return self._move(job, JobState.cancelled, JobCancelled())

    def pause(self, project_id: str, id: str) -> Job:
        """Pause a job at once if no worker runs it; otherwise request that it saves a checkpoint and stops."""
        job, state = self._locked(project_id, id)
        if state in (JobState.pausing, JobState.paused):
            raise JobAlreadyPaused(id, state)
        if state is JobState.running:
            return self._move(job, JobState.pausing, PauseRequested())
        # The worker that lost a job may hold it again only while it is queued.
        return self._move(job, JobState.paused, JobPaused(), lease_expired=False, **lease_values(job))

    def resume(self, project_id: str, id: str) -> Job:
        """Queue a paused job again. If it is still pausing, its attempt yields: it keeps its hold until its checkpoint
        is stored, and the next attempt resumes from there."""
        job, state = self._locked(project_id, id)
        if state not in (JobState.pausing, JobState.paused):
            raise JobNotPaused(id, state)
        enqueue_wakeup(self.session, project_id, "training")
        return self._move(job, JobState.queued, ResumeRequested(), phase=None, **lease_values(job))

    def retry(
        self,
        project_id: str,
        id: str,
        changes: dict[str, Any] | None = None,
        *,
        from_checkpoint: bool = False,
        key_id: str | None = None,
    ) -> Job:
        """Create a new job from the spec of a final one, with changes, checked against the present state. Raise
        InvalidSpec with every invalid field, including each with which the job could not resume from the checkpoint."""
        job = self.jobs.get(project_id, id, lock=True)
        if JobState(job.state) not in FINAL:
            raise JobNotFinished(id, job.state)
        checkpoint = self._last_checkpoint(job) if from_checkpoint else None
        check = SpecCheck(self.session, project_id)
        try:
            spec = check.check(apply_changes(job.spec, changes or {}), checkpoint)
            if checkpoint and (errors := check_loadable(JobSpec.model_validate(job.spec), spec, checkpoint)):
                raise InvalidSpec(errors)
        except InvalidSpec as error:
            below = "/changes" if changes else ""
            raise InvalidSpec([each._replace(pointer=below + each.pointer) for each in error.errors]) from error
        return self._queue(project_id, spec, check.init_from_id, key_id, id, checkpoint)

    def _last_checkpoint(self, job: Job) -> Checkpoint:
        """Return the checkpoint of the highest step, protected from removal until the transaction ends; for a job that
        has saved none yet, the one that it started from."""
        stored = CheckpointRepository(self.session)
        own = stored.of_job(job.project_id, job.id)
        id = own[0].id if own else job.resume_from
        found = stored.find(job.project_id, id, lock=True) if id else None
        if found is None:
            raise NoCheckpoint(job.id)
        return found

    def _locked(self, project_id: str, id: str) -> tuple[Job, JobState]:
        """Return a locked job that is not final."""
        job = self.jobs.get(project_id, id, lock=True)
        state = JobState(job.state)
        if state in FINAL:
            raise JobFinished(id, state)
        if state is JobState.cancelling:
            raise JobAlreadyCancelling(id)
        return job, state

    def _move(self, job: Job, target: JobState, event: EventBody, **values: Any) -> Job:
        return self.transitions.move_job(
            job.project_id,
            job.id,
            fence=job.attempt,
            sources=[JobState(job.state)],
            target=target,
            events=[event],
            **values,
        )

    def delete(self, project_id: str, id: str) -> None:
        job = self.jobs.get(project_id, id, lock=True)
        if JobState(job.state) not in FINAL:
            raise JobNotFinished(id, job.state)
        CheckpointRepository(self.session).check_unused(project_id, id)
        self.jobs.delete(job)

    def log_tail(self, project_id: str, id: str) -> str:
        """Return the end of the latest attempt's output; empty before there is an attempt."""
        self.jobs.get(project_id, id)
        attempt = self.jobs.latest_attempt(project_id, id)
        return attempt.log_tail if attempt else ""


def lease_values(job: Job) -> dict[str, Any]:
    """Return the values of the attempt's hold, to keep it in a state that would otherwise end it."""
    return {"lease_until": job.lease_until, "worker_id": job.worker_id}


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    return base | {
        key: merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in over.items()
    }
