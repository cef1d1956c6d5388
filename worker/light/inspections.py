"""Runs inspections: claim → clean, for a cleaned dataset → inspect in a separate process → store → conclude.

No file is read inside a transaction. If a worker dies, its lease expires and the next worker removes its folder. The
inspection process has no credentials; if it exceeds a limit, that becomes a problem of the dataset."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

from app.datasets.repository import DatasetRepository
from app.datasets.service import DatasetService, InspectionResult, format_of, rows_of
from app.db.session import Sessions, transaction
from app.db.tables import Dataset
from app.domain.artifact import StoredFile
from app.domain.datasets.problem import Finding, Problem
from app.domain.datasets.report import Report
from app.domain.storage_keys import hashes_key, inspection_key, rows_key
from app.storage import Storage
from worker.host.work_folders import find_abandoned_inspections, hold_folder, inspection_folder
from worker.inspection.protocol import GROUPS, HASHES, PROBLEMS, REPORT, ROWS, InspectionRequest, InspectionTask
from worker.light.lease import Lease
from worker.processes.inspection import InspectionFailed, WorkStopped, run

log = structlog.get_logger()

MEMORY_BYTES = 2 * 2**30
LEAST_CPU_SECONDS = 120
BYTES_A_CPU_SECOND = 200_000
"""Is the slowest expected reading: a compressed file with an error in every row."""
TIMES_THE_UPLOAD = 10
"""Limits the size of a written file, as a multiple of the largest upload."""
LEAST_FILE_BYTES = 2**30


class InspectionContext(NamedTuple):
    """Holds the worker's settings and connections for an inspection."""

    worker_id: str
    sessions: Sessions
    storage: Storage
    work: Path
    lease_seconds: float
    max_upload_bytes: int


def inspect_next(context: InspectionContext, draining: threading.Event | None = None) -> bool:
    """Inspect one waiting dataset of any project; return whether there was one.

    Errors of storage and PostgreSQL are passed on: the dataset's lease expires and it is inspected again."""
    with transaction(context.sessions, "claim_inspection") as session:
        dataset = DatasetRepository(session).claim_for_inspection(context.worker_id, context.lease_seconds)
    if dataset is None:
        return False
    folder = inspection_folder(context.work, dataset.id)

    def renew() -> bool:
        with transaction(context.sessions, "renew_inspection") as session:
            return DatasetRepository(session).renew(dataset, context.lease_seconds)

    lease = Lease(renew, context.lease_seconds, draining or threading.Event())
    try:
        with hold_folder(folder), lease:
            try:
                ClaimedInspection(context, dataset, folder, lease).run()
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except WorkStopped:
        log.info("stopped an inspection", dataset=dataset.id, draining=lease.draining.is_set())
        release_claim(context, dataset)  # After the last renewal, which would take the lease again.
    return True


def clear_scratch(work: Path) -> None:
    """Remove the folders of inspections whose worker is dead."""
    for folder in find_abandoned_inspections(work):
        log.info("removing the folder of a dead inspection", folder=folder.name)
        shutil.rmtree(folder, ignore_errors=True)


def release_claim(context: InspectionContext, dataset: Dataset) -> None:
    """Release the claim, so that another worker can start at once."""
    with transaction(context.sessions, "give_back_inspection") as session:
        DatasetRepository(session).give_back(dataset)


class ClaimedInspection:
    """Runs the inspection of one dataset."""

    def __init__(self, context: InspectionContext, dataset: Dataset, folder: Path, lease: Lease) -> None:
        self.context, self.dataset, self.folder, self.lease = context, dataset, folder, lease
        self.own = dataset.project_id, dataset.id, dataset.attempt
        """Holds the project, dataset and attempt that the storage keys include, so that a slow inspection overwrites
        nothing of a later one."""

    def run(self) -> None:
        if (
            self.dataset.cleaned_from is not None
            and self.dataset.size == 0
            and not self._write_cleaned_rows(self.dataset.cleaned_from)
        ):
            return
        try:
            self._run_process(
                InspectionTask.inspect, self.dataset.filename, self.dataset.size, self._read(self.dataset.storage_key)
            )
            result = self._store_result()
        except FileNotFoundError:
            result = self._failed_result("file_missing", "The file is missing in storage. Upload it again.")
        except InspectionFailed as error:
            result = self._failed_result("unreadable_file", str(error))
        self._conclude(result)

    def _write_cleaned_rows(self, source_id: str) -> bool:
        """Write the good rows of the source dataset. Return False if that failed; the failure is recorded then."""
        with transaction(self.context.sessions, "read_source") as session:
            source = DatasetService(session).find(self.dataset.project_id, source_id)
        try:
            if source is None:
                raise FileNotFoundError(source_id)
            rows = rows_of(source)
            self._run_process(InspectionTask.clean, "rows.jsonl", rows.size, self._read(rows.key))
        except FileNotFoundError:
            message = f"Dataset {source_id} was deleted before it was cleaned. Upload it again, then clean it."
            self._conclude(self._failed_result("source_deleted", message))
            return False
        except InspectionFailed as error:
            self._conclude(self._failed_result("unreadable_file", str(error)))
            return False
        stored = self.context.storage.put_file(
            inspection_key(*self.own), self.folder / InspectionTask.clean / ROWS, ROWS
        )
        with transaction(self.context.sessions, "keep_made") as session:
            is_kept = DatasetService(session).keep_made(self.dataset, stored)
            if not is_kept:
                DatasetRepository(session).mark_deleted(self.dataset.project_id, [stored.key])
        if not is_kept:
            raise WorkStopped
        self.dataset.storage_key, self.dataset.size, self.dataset.sha256 = stored.key, stored.size, stored.sha256
        shutil.rmtree(self.folder / InspectionTask.clean)
        return True

    def _run_process(self, task: InspectionTask, filename: str, size: int, chunks: Iterator[bytes]) -> None:
        request = InspectionRequest(
            task=task,
            filename=filename,
            unsafe_filename=self.dataset.unsafe_filename,
            format=format_of(self.dataset),
            columns=self.dataset.columns,
            drop_duplicates=self.dataset.drops_duplicates,
            memory_bytes=MEMORY_BYTES,
            cpu_seconds=LEAST_CPU_SECONDS + size // BYTES_A_CPU_SECOND,
            max_file_bytes=max(TIMES_THE_UPLOAD * self.context.max_upload_bytes, LEAST_FILE_BYTES),
        )
        folder = self.folder / task
        folder.mkdir()
        run(request, chunks, folder, lambda: self.lease.is_over)

    def _read(self, key: str) -> Iterator[bytes]:
        return self.context.storage.read(key)

    def _store_result(self) -> InspectionResult:
        """Store the files that the process wrote, and return the result."""
        report = Report.model_validate_json((self.folder / InspectionTask.inspect / REPORT).read_bytes())
        rows = self._store_file(rows_key(*self.own), ROWS)
        hashes = self._store_file(hashes_key(*self.own), HASHES)
        return InspectionResult(report, self._read_problems(PROBLEMS), self._read_problems(GROUPS), rows, hashes)

    def _read_problems(self, name: str) -> Iterator[Problem]:
        with (self.folder / InspectionTask.inspect / name).open("rb") as file:
            yield from map(Problem.model_validate_json, file)

    def _store_file(self, key: str, name: str) -> StoredFile | None:
        path = self.folder / InspectionTask.inspect / name
        return self.context.storage.put_file(key, path, name) if path.exists() else None

    def _failed_result(self, code: str, message: str) -> InspectionResult:
        return InspectionResult.failed(Finding("", code, message), format_of(self.dataset))

    def _conclude(self, result: InspectionResult) -> None:
        with transaction(self.context.sessions, "conclude_inspection") as session:
            DatasetService(session).conclude(self.dataset, result)
