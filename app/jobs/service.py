"""What a user may do with a job."""

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
from app.jobs.retrying import changed, check_loadable
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

    def submit(self, project_id: str, raw: object) -> Job:
        """Accept a JobSpec as JSON, or raise InvalidSpec with every bad field. Job, event and wake-up are one write."""
        check = SpecCheck(self.session, project_id)
        return self._queue(project_id, check.check(raw), check.init_from_id)

    def _queue(
        self,
        project_id: str,
        spec: JobSpec,
        init_from_id: str | None,
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
        """Return the filled spec, and what its job would wait for, or raise InvalidSpec; nothing is made.

        The job is submitted and the transaction rolled back, so that what is valid here is what a post accepts. The
        session is of no further use."""
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
        """A job that nobody runs is cancelled at once; one that runs is asked to stop."""
        job, state = self._locked(project_id, id)
        if state in (JobState.running, JobState.pausing):
            return self._move(job, JobState.cancelling, CancelRequested())
        if job.lease_until is not None:
            # Its attempt yields, and will find nothing left to let go of.
            self.jobs.end_attempt(project_id, id, job.attempt, "cancelled")
        return self._move(job, JobState.cancelled, JobCancelled())

    def pause(self, project_id: str, id: str) -> Job:
        """A job that nobody runs is paused at once; one that runs is asked to checkpoint and stop."""
        job, state = self._locked(project_id, id)
        if state in (JobState.pausing, JobState.paused):
            raise JobAlreadyPaused(id, state)
        if state is JobState.running:
            return self._move(job, JobState.pausing, PauseRequested())
        # Only a queued job may be taken up again by the worker that lost it.
        return self._move(job, JobState.paused, JobPaused(), lease_expired=False, **hold_of(job))

    def resume(self, project_id: str, id: str) -> Job:
        """Queue a paused job again. The attempt of one that is still pausing yields: it keeps its hold until its
        checkpoint is stored, and the next attempt goes on from there."""
        job, state = self._locked(project_id, id)
        if state not in (JobState.pausing, JobState.paused):
            raise JobNotPaused(id, state)
        enqueue_wakeup(self.session, project_id, "training")
        return self._move(job, JobState.queued, ResumeRequested(), phase=None, **hold_of(job))

    def retry(
        self, project_id: str, id: str, changes: dict[str, Any] | None = None, *, from_checkpoint: bool = False
    ) -> Job:
        """A new job by the spec of one that is final, with changes, checked against the world as it is now. InvalidSpec
        with every bad field, also each that the checkpoint could not be gone on from with."""
        job = self.jobs.get(project_id, id, lock=True)
        if JobState(job.state) not in FINAL:
            raise JobNotFinished(id, job.state)
        checkpoint = self._last_checkpoint(job) if from_checkpoint else None
        check = SpecCheck(self.session, project_id)
        try:
            spec = check.check(changed(job.spec, changes or {}), checkpoint)
            if checkpoint and (errors := check_loadable(JobSpec.model_validate(job.spec), spec, checkpoint)):
                raise InvalidSpec(errors)
        except InvalidSpec as error:
            below = "/changes" if changes else ""
            raise InvalidSpec([each._replace(pointer=below + each.pointer) for each in error.errors]) from error
        return self._queue(project_id, spec, check.init_from_id, id, checkpoint)

    def _last_checkpoint(self, job: Job) -> Checkpoint:
        """The furthest, which nobody lets go of until the transaction ends; of a job that has saved none yet, the one
        that it went on from itself."""
        stored = CheckpointRepository(self.session)
        own = stored.of_job(job.project_id, job.id)
        id = own[0].id if own else job.resume_from
        found = stored.find(job.project_id, id, lock=True) if id else None
        if found is None:
            raise NoCheckpoint(job.id)
        return found

    def _locked(self, project_id: str, id: str) -> tuple[Job, JobState]:
        """A job of which something else may still be wished."""
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
        """The last words of the latest attempt's process; empty before there is one."""
        self.jobs.get(project_id, id)
        attempt = self.jobs.latest_attempt(project_id, id)
        return attempt.log_tail if attempt else ""


def hold_of(job: Job) -> dict[str, Any]:
    """The attempt's hold, to go on in a state that ends it otherwise."""
    return {"lease_until": job.lease_until, "worker_id": job.worker_id}


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    return base | {
        key: merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in over.items()
    }
