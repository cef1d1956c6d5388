"""Runs one attempt at a job in named steps: prepare → train → publish. `worker.tasks` claims the job.

The training process and the local folder are always removed at the end. If the worker dies instead, the lease expires,
the next attempt resumes from the last checkpoint, and a worker on this machine removes the folder.
"""

import math
import queue
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
from redis import Redis
from sqlalchemy.exc import DBAPIError

from app.datasets.service import format_of
from app.db.session import Sessions, transaction
from app.domain.events.job_events import WarningIssued
from app.domain.jobs.spec import JobSpec
from app.domain.jobs.state import FailureReason, JobPhase, JobState
from app.errors import AdapterNotFound, CheckpointNotFound, InvalidModelFolder, ModelNotFound, StaleAttempt
from app.jobs.attempts.service import RUNNING, AttemptService
from app.jobs.queue.repository import Claim
from app.secrets.redaction import redact_error
from app.settings import Settings
from app.storage import FAILURES, Storage
from worker.attempt.event_reporter import EventReporter
from worker.attempt.fenced_writer import FencedWriter
from worker.attempt.heartbeat import Heartbeat
from worker.attempt.inputs import InputFetcher, read_inputs
from worker.attempt.metrics.reporter import Reporter
from worker.attempt.outputs import OutputUploader
from worker.attempt.overlap_check import warn_of_overlap
from worker.attempt.trackers.feeds import Trackers
from worker.attempt.watchdog import Watchdog, explain_exit, failure_from_exception, protocol_failure
from worker.host.disk_space import DiskSpace
from worker.host.hardware import find_training_machine, training_device
from worker.host.model_cache import FetchStopped, ModelCache
from worker.host.work_folders import attempt_folder, hold_folder
from worker.processes.child_messages import ProtocolBroken
from worker.processes.standby import StandbyProcess
from worker.processes.training import TrainingProcess
from worker.training.runtime.messages import (
    CheckpointWritten,
    ChildMessage,
    EventMessage,
    Failed,
    Finished,
    PhaseEntered,
    Planned,
    Replanned,
    Started,
    Stop,
    Stopped,
    TrainingRequest,
)

log = structlog.get_logger()
T = TypeVar("T")
TICK_SECONDS = 0.2


class Attempt:
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
        self.drain_ends = math.inf
        self.fence = FencedWriter(sessions, claim, settings.lease_seconds, self._is_given_up)
        self.reporter = Reporter(self.fence, redis, claim)
        self.folder = attempt_folder(settings.work_dir, claim)
        self.event_reporter = EventReporter(self.fence)
        self.input_fetcher = InputFetcher(storage, self.fence, claim, self.folder, cache, self._must_stop)
        self.output_uploader = OutputUploader(storage, self.fence, claim, self.folder)
        self.trackers = Trackers(self.fence, claim, self.folder, settings.data_dir.absolute())
        self.base_model_revision = ""
        """Is set once the inputs are read."""
        self.used_standby_process = False
        """Says whether the training process had the model's tokenizer loaded when it received the job."""
        self.uploads = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self.uploaded: list[tuple[Future[None], Path]] = []
        """Lists the uploads of checkpoints, including finished ones. The first entry may be the comparison of the
        datasets."""

    def run(self) -> None:
        with ExitStack() as folder:
            try:
                folder.enter_context(hold_folder(self.folder))
                folder.callback(self.input_fetcher.close)
                self.reporter.open(self.folder)
                with self.heartbeat:
                    self._run()
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

    def _is_given_up(self) -> bool:
        """Return whether the attempt is lost, or PostgreSQL was unreachable for longer than a drain may take. In the
        second case the lease expires and the next attempt resumes from the last checkpoint."""
        return self.heartbeat.stale or (self._is_draining() and time.monotonic() > self.drain_ends)

    def _must_stop(self) -> bool:
        return self.heartbeat.stale or self._requested_stop() is not None

    def _is_draining(self) -> bool:
        if self.drain.is_set():
            self.drain_ends = min(self.drain_ends, time.monotonic() + self.settings.drain_timeout_seconds)
        return self.drain.is_set()

    def _run(self) -> None:
        try:
            self._prepare_and_train()
        finally:
            self.uploads.shutdown(cancel_futures=True)

    def _prepare_and_train(self) -> None:
        try:
            request = self.prepare()
        except FetchStopped:
            self.conclude(Stopped(step=0))
            return
        except (ModelNotFound, InvalidModelFolder) as error:
            self.fail(Failed(reason=FailureReason.model_unusable, message=str(error)))
            return
        except AdapterNotFound as error:
            message = f"The adapter or checkpoint that init_from names was deleted. {error}"
            self.fail(Failed(reason=FailureReason.init_from_not_found, message=message))
            return
        except CheckpointNotFound as error:
            message = f'The checkpoint to resume from no longer exists. {error} Retry the job from "start".'
            self.fail(Failed(reason=FailureReason.checkpoint_unusable, message=message))
            return
        self.trackers.start(request.spec)
        last = self.train(request)
        for upload, _ in self.uploaded:
            upload.result()
        self.conclude(last)

    def _fail_attempt(self, failed: Failed) -> None:
        try:
            self.flush()
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
        self.base_model_revision = inputs.model.revision
        dataset = self.input_fetcher.fetch_rows("training.jsonl", inputs.dataset)
        if validation := inputs.validation:
            compare = partial(warn_of_overlap, self.storage, self.folder, inputs.dataset, validation, self.write)
            self.uploaded.append((self.uploads.submit(compare), self.folder / "compared"))
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
        """Run the training process to its end, handling its messages. Return its last message, or a failure if it sent
        none."""
        standby = self.standby.take(request.base_model_path)
        if standby is not None:
            last = self._train_in(standby, request)
            if standby.begun or not isinstance(last, Failed):
                return last
            log.warning("the standby process died before its job began", job=self.claim.job_id)
        return self._train_in(TrainingProcess.logging_to(self.folder / "training.log"), request)

    def _train_in(self, child: TrainingProcess, request: TrainingRequest) -> ChildMessage:
        self.used_standby_process = child.ready is not None and child.ready.base_model_path == request.base_model_path
        child.begin(request, self.reporter.record)
        self.heartbeat.log_tail = child.log_tail
        try:
            last = self._listen(child)
            if last is None:
                child.wait_for_exit()
        finally:
            code = child.end()
            self.write(lambda attempt: attempt.keep_log(child.log_tail()), "keep_log")
        return explain_exit(last, child, code)

    def _listen(self, child: TrainingProcess) -> ChildMessage | None:
        patience_ends: float | None = None
        requested: Stop | None = None
        last: ChildMessage | None = None
        watchdog = Watchdog(child, self.heartbeat, self.settings.stall_timeout_seconds)
        while True:
            if self.heartbeat.stale:
                raise StaleAttempt
            stop = self._requested_stop()
            if stop and stop != requested:
                child.request_stop(stop)
                requested = stop
                settings = self.settings
                allowed = settings.drain_timeout_seconds if stop.why == "drain" else settings.stop_timeout_seconds
                patience_ends = min(patience_ends or math.inf, time.monotonic() + allowed)
            if patience_ends and time.monotonic() > patience_ends:
                child.kill()
            if last is None and (failure := watchdog.find_failure()):
                return failure
            if self.reporter.flush_if_due():
                self.event_reporter.write_queued()
            try:
                message = child.messages.get(timeout=TICK_SECONDS)
            except queue.Empty:
                continue
            if message is None:
                return last or (Stopped(step=0) if patience_ends else None)
            if isinstance(message, Finished | Failed | Stopped):
                last = message
            self._handle_message(message)

    def _requested_stop(self) -> Stop | None:
        if self.heartbeat.state is JobState.cancelling:
            return Stop(why="cancel")
        wanted = self.heartbeat.state is JobState.running and not self._is_draining()
        return None if wanted else Stop(why="drain")

    def _handle_message(self, message: ChildMessage) -> None:
        match message:
            case PhaseEntered():
                self.event_reporter.report(message.phase)
            case EventMessage():
                self.event_reporter.report(message.event)
            case CheckpointWritten():
                self._queue_upload(message)
            case Planned() | Replanned() | Started():
                self.event_reporter.flush()
                self._record_plan_or_start(message)

    def _record_plan_or_start(self, message: Planned | Replanned | Started) -> None:
        match message:
            case Planned():
                self.reporter.total_steps = message.total_steps
                plan = message.resolved, message.total_steps, message.start_step, message.inexact_resumes
                self.write(lambda attempt: attempt.plan(*plan), "plan")
            case Replanned():
                self.write(lambda attempt: attempt.replan(message.resolved), "replan")
            case Started():
                checks = message.parity_seconds, message.dry_run_seconds, self.used_standby_process
                self.write(lambda attempt: attempt.training_started(*checks), "start")

    def _queue_upload(self, written: CheckpointWritten) -> None:
        """Upload the checkpoint on a separate thread, one at a time. A newer checkpoint replaces one that still waits,
        so that an outage does not fill the disk."""
        if self.uploaded and self.uploaded[-1][0].cancel():
            self.output_uploader.written.remove(self.uploaded.pop()[1])
        self.uploaded.append((self.uploads.submit(self._store_checkpoint, written), written.path))

    def _store_checkpoint(self, written: CheckpointWritten) -> None:
        """Upload and record a checkpoint. If storage rejects it, only the checkpoint is lost; the training continues.

        The metric points before it are stored first, since an attempt that resumes from it does not repeat them."""
        try:
            files = self.output_uploader.upload_checkpoint(written.path, written.step)
        except FAILURES as error:
            detail = (
                f"Could not store the checkpoint of step {written.step} ({redact_error(error)}). The training "
                "continues; after a crash it would resume from the previous checkpoint."
            )
            warning = WarningIssued(code="checkpoint_failed", detail=detail)
            self.write(lambda attempt: attempt.append_event(warning), "append_event")
        else:
            self.flush()
            made_with = self.base_model_revision, written.machine
            self.write(lambda attempt: attempt.save_checkpoint(written.step, files, *made_with), "save_checkpoint")
        self.output_uploader.written.remove(written.path)

    def conclude(self, last: ChildMessage) -> None:
        """Record the attempt's outcome. A result counts only while the job is running or pausing.

        If a cancellation was committed first, or the job was paused and resumed and is queued again, the attempt only
        releases the job."""
        self.flush()
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

    def flush(self) -> None:
        """Store the last metric points, and wait while PostgreSQL is unreachable."""
        while True:
            try:
                return self.reporter.flush()
            except DBAPIError as error:
                self.fence.wait_for_postgres(error)

    def write(self, change: Callable[[AttemptService], T], step: str) -> T:
        return self.fence.write(change, step)
