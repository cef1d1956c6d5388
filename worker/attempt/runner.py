"""Runs one attempt at a job in named steps: prepare → train → publish. `worker.tasks` claims the job.

The training process and the local folder are always removed at the end. If the worker dies instead, the lease expires,
the next attempt resumes from the last checkpoint, and a worker on this machine removes the folder.
"""

import shutil
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog
from redis import Redis
from sqlalchemy.exc import DBAPIError

from app.datasets.service import format_of
from app.db.session import Sessions, transaction
from app.domain.jobs.spec import JobSpec
from app.domain.jobs.state import FailureReason, JobPhase, JobState
from app.errors import AdapterNotFound, CheckpointNotFound, InvalidModelFolder, ModelNotFound, StaleAttempt
from app.jobs.attempts.service import RUNNING, AttemptService
from app.jobs.queue.repository import Claim
from app.settings import Settings
from app.storage import Storage
from worker.attempt.checkpoint_uploader import CheckpointUploader
from worker.attempt.child_session import ChildSession
from worker.attempt.event_reporter import EventReporter
from worker.attempt.fenced_writer import FencedWriter
from worker.attempt.heartbeat import Heartbeat
from worker.attempt.inputs import InputFetcher, read_inputs
from worker.attempt.message_handler import MessageHandler
from worker.attempt.metrics.reporter import Reporter
from worker.attempt.outputs import OutputUploader
from worker.attempt.overlap_check import warn_of_overlap
from worker.attempt.trackers.feeds import Trackers
from worker.attempt.watchdog import StopRequests, failure_from_exception, protocol_failure
from worker.host.disk_space import DiskSpace
from worker.host.hardware import find_training_machine, training_device
from worker.host.model_cache import FetchStopped, ModelCache
from worker.host.work_folders import attempt_folder, hold_folder
from worker.processes.child_messages import ProtocolBroken
from worker.processes.standby import StandbyProcess
from worker.training.runtime.messages import ChildMessage, Failed, Finished, Stopped, TrainingRequest

log = structlog.get_logger()
T = TypeVar("T")
MISSING_INPUTS: Final = (ModelNotFound, InvalidModelFolder, AdapterNotFound, CheckpointNotFound)


class AttemptRunner:
    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        storage: Storage,
        redis: Redis,
        claim: Claim,
        drain: threading.Event,
        standby: StandbyProcess,
        disk_space: DiskSpace,
        cache: ModelCache,
    ) -> None:
        self.settings, self.sessions, self.storage, self.claim = settings, sessions, storage, claim
        self.drain, self.standby, self.disk_space = drain, standby, disk_space
        self.heartbeat = Heartbeat(sessions, claim, settings.lease_seconds, settings.heartbeat_seconds)
        stop_requests = StopRequests(self.heartbeat, drain, settings.drain_timeout_seconds)
        self.fence = FencedWriter(sessions, claim, settings.lease_seconds, stop_requests.is_given_up)
        self.reporter = Reporter(self.fence, redis, claim)
        self.folder = attempt_folder(settings.work_dir, claim)
        self.event_reporter = EventReporter(self.fence)
        self.input_fetcher = InputFetcher(storage, self.fence, claim, self.folder, cache, stop_requests.must_stop)
        self.output_uploader = OutputUploader(storage, self.fence, claim, self.folder)
        self.trackers = Trackers(self.fence, claim, self.folder, settings.data_dir.absolute())
        self.checkpoint_uploader = CheckpointUploader(self.fence, self.reporter, self.output_uploader)
        self.messages = MessageHandler(self.fence, self.reporter, self.event_reporter, self.checkpoint_uploader)
        self.child_session = ChildSession(settings, claim, self.heartbeat, stop_requests, self.messages)

    def run(self) -> None:
        with ExitStack() as folder:
            try:
                folder.enter_context(hold_folder(self.folder))
                folder.callback(self.input_fetcher.close)
                self.reporter.open(self.folder)
                with self.heartbeat, self.checkpoint_uploader:
                    self._prepare_and_train()
            except StaleAttempt:
                self._abandon()
            except ProtocolBroken as error:
                self._fail_attempt(protocol_failure(str(error)))
            except Exception as error:
                # An error of the worker fails this job with a message. The worker continues with other jobs.
                log.exception(
                    "the attempt failed with an internal error", job=self.claim.job_id, attempt=self.claim.attempt
                )
                self._fail_attempt(failure_from_exception(error))
            finally:
                self.trackers.end(draining=self.drain.is_set())
                if self.reporter.close():
                    shutil.rmtree(self.folder, ignore_errors=True)

    def _prepare_and_train(self) -> None:
        try:
            request = self.prepare()
        except FetchStopped:
            self.conclude(Stopped(step=0))
            return
        except MISSING_INPUTS as error:
            self.fail(explain_missing_input(error))
            return
        self.trackers.start(request.spec)
        self.conclude(self.train(request))

    def prepare(self) -> TrainingRequest:
        """Fetch the training process's inputs into the attempt's folder."""
        self.event_reporter.enter_phase(JobPhase.preparing)
        inputs = self.write(partial(read_inputs, self.claim), "read_inputs")
        spec = JobSpec.model_validate(inputs.job.spec)
        checkpoint_path = self.input_fetcher.fetch_checkpoint(inputs.checkpoints)
        if checkpoint_path is None and inputs.job.resume_from:
            raise CheckpointNotFound(inputs.job.resume_from)
        init_from_path = self.input_fetcher.fetch_init_from(
            inputs.job.init_from_id if checkpoint_path is None else None
        )
        assert inputs.model.revision is not None  # Every ready model has one.
        self.checkpoint_uploader.base_model_revision = inputs.model.revision
        dataset = self.input_fetcher.fetch_rows("training.jsonl", inputs.dataset)
        if validation := inputs.validation:
            compare = partial(warn_of_overlap, self.storage, self.folder, inputs.dataset, validation, self.write)
            self.checkpoint_uploader.run_before_uploads(compare)
        return TrainingRequest(
            spec=spec.decided(inputs.model.max_seq_len),
            spec_as_sent=spec,
            resolved=inputs.resolved,
            attempt=self.claim.attempt,
            base_model=inputs.model.name,
            base_model_hub=inputs.model.hub,
            base_model_revision=inputs.model.revision,
            base_model_hub_name=inputs.model.hub_name,
            base_model_hub_revision=inputs.model.hub_revision,
            base_model_license=inputs.model.license,
            base_model_path=self.input_fetcher.fetch_model(inputs.model),
            dataset_path=dataset,
            dataset_sha256=inputs.dataset.sha256,
            dataset_format=format_of(inputs.dataset),
            validation_path=self.input_fetcher.fetch_rows("validation.jsonl", validation) if validation else None,
            validation_sha256=validation.sha256 if validation else None,
            validation_format=format_of(validation) if validation else None,
            checkpoint_path=checkpoint_path,
            init_from_path=init_from_path,
            work_dir=self.output_uploader.make_folder(),
            log_path=self.folder / "training.log",
            cache_dir=self.settings.cache_dir.absolute(),
            device=training_device(spec.resources.device),
            threads=self.settings.training_threads,
            machine_facts=dict(find_training_machine(self.settings.training_threads).facts),
        )

    def train(self, request: TrainingRequest) -> ChildMessage:
        """Run the training process to its end, and wait until its checkpoints are stored. Return its last message, or a
        failure if it sent none."""
        last = self.child_session.run(request, self.standby)
        self.checkpoint_uploader.wait()
        return last

    def conclude(self, last: ChildMessage) -> None:
        """Record the attempt's outcome. A result counts only while the job is running or pausing.

        If a cancellation was committed first, or the job was paused and resumed and is queued again, the attempt only
        releases the job."""
        self.reporter.flush_with_retries()
        if isinstance(last, Finished | Failed):
            self.trackers.settle(finished=isinstance(last, Finished))
        self.event_reporter.flush()
        state = self.write(lambda attempt: attempt.state(), "read_state")
        match last:
            case Finished() if state in RUNNING:
                self.publish(last.path, last.reports)
            case Failed() if state is not JobState.cancelling:
                self.fail(last)
            case _:
                self.write(AttemptService.release, "release")

    def fail(self, failed: Failed) -> None:
        is_disk_full = failed.reason is FailureReason.disk_full
        message = self.disk_space.note_full(failed.message) if is_disk_full else failed.message
        self.write(lambda attempt: attempt.fail(failed.reason, message), "fail")

    def publish(self, result: Path, reports: Path | None = None) -> None:
        """Store the result under the attempt's keys, then make it the job's result in one transaction."""
        self.event_reporter.enter_phase(JobPhase.publishing)
        uploader = self.output_uploader
        manifest, files = uploader.read_manifest(result), uploader.upload_folder(result, "result")
        archive = uploader.upload_archive(result)
        report_files = [
            *(uploader.upload_folder(reports, "reports") if reports else ()),
            uploader.upload_step_metrics(),
        ]
        if events := self.trackers.events_file():
            report_files.append(uploader.upload_file(events))
        try:
            self.write(lambda attempt: attempt.publish(manifest, files, archive, report_files), "publish")
        except StaleAttempt:
            # A cancellation or a resume was committed first. Or the attempt is lost, or this publish was committed and
            # the response was lost; then the release changes nothing.
            self.write(AttemptService.release, "release")

    def _fail_attempt(self, failed: Failed) -> None:
        try:
            self.reporter.flush_with_retries()
            self.fail(failed)
        except StaleAttempt:
            self._abandon()

    def _abandon(self) -> None:
        log.warning("the attempt lost its job; it stops", job=self.claim.job_id, attempt=self.claim.attempt)
        try:
            with transaction(self.sessions, "request_orphan_collection") as session:
                AttemptService(session, self.claim).request_orphan_collection()
        except DBAPIError as error:
            log.warning("files of a lost attempt may remain in storage", job=self.claim.job_id, error=str(error)[:300])

    def write(self, change: Callable[[AttemptService], T], step: str) -> T:
        return self.fence.write(change, step)


def explain_missing_input(error: Exception) -> Failed:
    """Return the failure of an attempt whose inputs no longer exist or cannot be used."""
    match error:
        case AdapterNotFound():
            message = f"The adapter or checkpoint that init_from names was deleted. {error}"
            return Failed(reason=FailureReason.init_from_not_found, message=message)
        case CheckpointNotFound():
            message = f'The checkpoint to resume from no longer exists. {error} Retry the job from "start".'
            return Failed(reason=FailureReason.checkpoint_unusable, message=message)
        case _:
            return Failed(reason=FailureReason.model_unusable, message=str(error))
