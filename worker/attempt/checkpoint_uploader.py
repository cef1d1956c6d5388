"""Uploads the checkpoints of an attempt and records them, on a separate thread."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from app.domain.events.job_events import WarningIssued
from app.secrets.redaction import redact_error
from app.storage import FAILURES
from worker.attempt.fenced_writer import FencedWriter
from worker.attempt.metrics.reporter import Reporter
from worker.attempt.outputs import OutputUploader
from worker.training.runtime.messages import CheckpointWritten


class CheckpointUploader:
    """Uploads one checkpoint at a time. A newer checkpoint replaces one that still waits, so that an outage does not
    fill the disk."""

    def __init__(self, fence: FencedWriter, reporter: Reporter, outputs: OutputUploader) -> None:
        self._fence, self._reporter, self._outputs = fence, reporter, outputs
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self.base_model_revision = ""
        """Is set once the inputs are read."""
        self.uploads: list[tuple[Future[None], Path | None]] = []
        """Lists the uploads, including finished ones, with the folders of their checkpoints. Other tasks on the thread
        have no folder."""

    def __enter__(self) -> "CheckpointUploader":
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the upload that is under way, and cancel one that waits."""
        self._executor.shutdown(cancel_futures=True)

    def run_before_uploads(self, task: Callable[[], None]) -> None:
        """Run a task on the thread, before the uploads that are queued later."""
        self.uploads.append((self._executor.submit(task), None))

    def queue_checkpoint(self, written: CheckpointWritten) -> None:
        if self.uploads:
            upload, folder = self.uploads[-1]
            if folder is not None and upload.cancel():
                self.uploads.pop()
                self._outputs.written.remove(folder)
        self.uploads.append((self._executor.submit(self.store_checkpoint, written), written.path))

    def store_checkpoint(self, written: CheckpointWritten) -> None:
        """Upload and record a checkpoint. If storage rejects it, only the checkpoint is lost; the training continues.

        The metric points before it are stored first, since an attempt that resumes from it does not repeat them."""
        try:
            files = self._outputs.upload_checkpoint(written.path, written.step)
        except FAILURES as error:
            detail = (
                f"Could not store the checkpoint of step {written.step} ({redact_error(error)}). The training "
                "continues; after a crash it would resume from the previous checkpoint."
            )
            warning = WarningIssued(code="checkpoint_failed", detail=detail)
            self._fence.write(lambda attempt: attempt.append_event(warning), "append_event")
        else:
            self._reporter.flush_with_retries()
            made_with = self.base_model_revision, written.machine
            self._fence.write(
                lambda attempt: attempt.save_checkpoint(written.step, files, *made_with), "save_checkpoint"
            )
        self._outputs.written.remove(written.path)

    def wait(self) -> None:
        """Wait until every upload is done. Raises the first error of an upload."""
        for upload, _ in self.uploads:
            upload.result()
