"""Fetches an attempt's inputs from storage into its folder."""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from app.adapters.service import AdapterService
from app.datasets.service import DatasetService, rows_of
from app.db.tables import Checkpoint, Dataset, Job, RegisteredModel
from app.domain.artifact import ArtifactKind, StoredFile
from app.domain.events.job_events import ModelFetched
from app.domain.ids import is_id
from app.errors import AdapterNotFound
from app.jobs.attempts.service import AttemptService
from app.jobs.checkpoints.repository import adapter_of
from app.jobs.queue.repository import Claim
from app.models.service import ModelService
from app.storage import DamagedObject, Storage
from worker.attempt.archive import unpack_adapter
from worker.attempt.fenced_writer import FencedWriter
from worker.host.model_cache import ModelCache

log = structlog.get_logger()

QUIET_SECONDS = 2.0
"""No progress event is recorded for a model that is fetched within this time."""
PROGRESS_EVENT_SECONDS = 15.0


class Inputs(NamedTuple):
    job: Job
    model: RegisteredModel
    dataset: Dataset
    validation: Dataset | None
    checkpoints: Sequence[Checkpoint]
    """Lists the latest first."""
    resolved: dict[str, Any] | None
    """Holds the decisions of an earlier attempt."""


def read_inputs(claim: Claim, attempt: AttemptService) -> Inputs:
    """Read the database rows that describe the attempt's inputs.

    Raises ModelNotFound or ModelNotReady if the job's model is not available."""
    job = attempt.jobs.get(claim.project_id, claim.job_id)
    datasets = DatasetService(attempt.session)
    validation_id = job.spec["validation_dataset_id"]
    return Inputs(
        job,
        ModelService(attempt.session).get_ready(job.project_id, job.base_model),
        datasets.get(job.project_id, job.spec["dataset_id"]),
        datasets.get(job.project_id, validation_id) if validation_id else None,
        attempt.resumable(job),
        attempt.jobs.resolved_before(job.project_id, job.id, claim.attempt),
    )


class InputFetcher:
    def __init__(
        self,
        storage: Storage,
        fence: FencedWriter,
        claim: Claim,
        folder: Path,
        cache: ModelCache,
        is_over: Callable[[], bool],
    ) -> None:
        self.storage, self.fence, self.claim, self.folder = storage, fence, claim, folder
        self._cache, self._is_over, self._held = cache, is_over, ExitStack()

    def close(self) -> None:
        """Release the base model, so that the cache may evict it."""
        self._held.close()

    def fetch_model(self, model: RegisteredModel) -> Path:
        """Return the base model's folder, which stays in the cache until `close`.

        Raises FetchStopped if the attempt must end before the model is fetched, and InvalidModelFolder if storage no
        longer has the model."""
        next_event_at = time.monotonic() + QUIET_SECONDS

        def progress(done: int, total: int) -> None:
            nonlocal next_event_at
            if time.monotonic() >= next_event_at:
                event = ModelFetched(num_bytes=done, total_bytes=total)
                self.fence.try_write(lambda attempt: attempt.append_event(event), "append_event")
                next_event_at = time.monotonic() + PROGRESS_EVENT_SECONDS

        return self._held.enter_context(self._cache.hold(model, progress=progress, is_over=self._is_over))

    def fetch_rows(self, name: str, dataset: Dataset) -> Path:
        self.storage.fetch(rows_of(dataset), self.folder / name)
        return self.folder / name

    def fetch_checkpoint(self, checkpoints: Sequence[Checkpoint]) -> Path | None:
        """Fetch the latest checkpoint that is intact in storage. Lost checkpoints are recorded as lost and skipped."""
        for checkpoint in checkpoints:
            folder = self.folder / "resumed" / f"step-{checkpoint.step:08d}"
            folder.mkdir(parents=True)
            try:
                for file in map(StoredFile.model_validate, checkpoint.files):
                    self.storage.fetch(file, folder / file.path)
            except (FileNotFoundError, DamagedObject) as error:
                log.warning(
                    "a checkpoint is missing or damaged in storage",
                    job=self.claim.job_id,
                    step=checkpoint.step,
                    error=str(error)[:300],
                )
                shutil.rmtree(folder)
                if checkpoint.job_id == self.claim.job_id:
                    give_up = partial(
                        AttemptService.give_up_checkpoint, number=checkpoint.attempt, step=checkpoint.step
                    )
                    self.fence.write(give_up, "give_up_checkpoint")
            else:
                unpack_adapter(folder)
                return folder
        return None

    def fetch_init_from(self, id: str | None) -> Path | None:
        """Fetch the adapter or checkpoint that the job's adapter is initialized from; return None if the job names
        none.

        Raises AdapterNotFound if it was deleted."""
        if id is None:
            return None
        folder = self.folder / "init_from"
        folder.mkdir()
        try:
            for file in self.fence.write(partial(self._init_from_files, id=id), "read_adapter"):
                self.storage.fetch(file, folder / file.path)
        except FileNotFoundError as error:
            raise AdapterNotFound(id) from error
        unpack_adapter(folder)
        return folder

    def _init_from_files(self, own: AttemptService, id: str) -> list[StoredFile]:
        project_id = self.claim.project_id
        if is_id(id, "ftckpt"):
            checkpoint = own.stored.find(project_id, id)
            if checkpoint is None:
                raise AdapterNotFound(id)
            return [adapter_of(checkpoint)]
        parts = AdapterService(own.session).parts(project_id, id)
        return [
            StoredFile(path=part.path, key=part.storage_key, size=part.size, sha256=part.sha256)
            for part in parts
            if part.kind == ArtifactKind.adapter
        ]
