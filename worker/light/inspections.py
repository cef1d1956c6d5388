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
from worker.host.work_folders import abandoned_inspections, held, inspection_folder
from worker.inspection.protocol import GROUPS, HASHES, PROBLEMS, REPORT, ROWS, InspectionRequest, Task
from worker.light.lease import Lease
from worker.processes.inspection import Gone, InspectionFailed, run

log = structlog.get_logger()

MEMORY_BYTES = 2 * 2**30
LEAST_CPU_SECONDS = 120
BYTES_A_CPU_SECOND = 200_000
"""Is the slowest expected reading: a compressed file with an error in every row."""
TIMES_THE_UPLOAD = 10
"""Limits the size of a written file, as a multiple of the largest upload."""
LEAST_FILE_BYTES = 2**30


class InspectionContext(NamedTuple):
    """Holds what an inspection needs from its worker."""

    worker_id: str
    sessions: Sessions
    storage: Storage
    work: Path
    lease_seconds: float
    max_upload_bytes: int


def inspect_next(place: InspectionContext, draining: threading.Event | None = None) -> bool:
    """Inspect one waiting dataset of any project; return whether there was one.

    Errors of storage and PostgreSQL are passed on: the dataset's lease expires and it is inspected again."""
    with transaction(place.sessions, "claim_inspection") as session:
        dataset = DatasetRepository(session).claim_for_inspection(place.worker_id, place.lease_seconds)
    if dataset is None:
        return False
    folder = inspection_folder(place.work, dataset.id)

    def renew() -> bool:
        with transaction(place.sessions, "renew_inspection") as session:
            return DatasetRepository(session).renew(dataset, place.lease_seconds)

    lease = Lease(renew, place.lease_seconds, draining or threading.Event())
    try:
        with held(folder), lease:
            try:
                ClaimedInspection(place, dataset, folder, lease).run()
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except Gone:
        log.info("left an inspection", dataset=dataset.id, draining=lease.draining.is_set())
        give_back(place, dataset)  # after the last renewal, which would take the lease again
    return True


def clear_scratch(work: Path) -> None:
    """Remove the folders of inspections whose worker is dead."""
    for folder in abandoned_inspections(work):
        log.info("removing what a dead inspection left", folder=folder.name)
        shutil.rmtree(folder, ignore_errors=True)


def give_back(place: InspectionContext, dataset: Dataset) -> None:
    """Give up the claim, so that another worker can start at once."""
    with transaction(place.sessions, "give_back_inspection") as session:
        DatasetRepository(session).give_back(dataset)


class ClaimedInspection:
    """Runs the inspection of one dataset."""

    def __init__(self, place: InspectionContext, dataset: Dataset, folder: Path, lease: Lease) -> None:
        self.place, self.dataset, self.folder, self.lease = place, dataset, folder, lease
        self.own = dataset.project_id, dataset.id, dataset.attempt
        """Holds the project, dataset and attempt that the storage keys include, so that a slow inspection overwrites
        nothing of a later one."""

    def run(self) -> None:
        if (
            self.dataset.cleaned_from is not None
            and self.dataset.size == 0
            and not self._make(self.dataset.cleaned_from)
        ):
            return
        try:
            self._start(Task.inspect, self.dataset.filename, self.dataset.size, self._read(self.dataset.storage_key))
            found = self._found()
        except FileNotFoundError:
            found = self._failed("file_missing", "Storage has lost the file; upload it again.")
        except InspectionFailed as error:
            found = self._failed("unreadable_file", str(error))
        self._conclude(found)

    def _make(self, source_id: str) -> bool:
        """Write the good rows of the source dataset. Return False if that failed; the failure is recorded then."""
        with transaction(self.place.sessions, "read_source") as session:
            source = DatasetService(session).find(self.dataset.project_id, source_id)
        try:
            if source is None:
                raise FileNotFoundError(source_id)
            rows = rows_of(source)
            self._start(Task.clean, "rows.jsonl", rows.size, self._read(rows.key))
        except FileNotFoundError:
            what = f"Dataset {source_id} was deleted before its good rows were written; upload it again, and clean it."
            self._conclude(self._failed("source_deleted", what))
            return False
        except InspectionFailed as error:
            self._conclude(self._failed("unreadable_file", str(error)))
            return False
        stored = self.place.storage.put_file(inspection_key(*self.own), self.folder / Task.clean / ROWS, ROWS)
        with transaction(self.place.sessions, "keep_made") as session:
            is_kept = DatasetService(session).keep_made(self.dataset, stored)
            if not is_kept:
                DatasetRepository(session).mark_deleted(self.dataset.project_id, [stored.key])
        if not is_kept:
            raise Gone
        self.dataset.storage_key, self.dataset.size, self.dataset.sha256 = stored.key, stored.size, stored.sha256
        shutil.rmtree(self.folder / Task.clean)
        return True

    def _start(self, task: Task, filename: str, size: int, chunks: Iterator[bytes]) -> None:
        request = InspectionRequest(
            task=task,
            filename=filename,
            unsafe_filename=self.dataset.unsafe_filename,
            format=format_of(self.dataset),
            columns=self.dataset.columns,
            drop_duplicates=self.dataset.drops_duplicates,
            memory_bytes=MEMORY_BYTES,
            cpu_seconds=LEAST_CPU_SECONDS + size // BYTES_A_CPU_SECOND,
            max_file_bytes=max(TIMES_THE_UPLOAD * self.place.max_upload_bytes, LEAST_FILE_BYTES),
        )
        folder = self.folder / task
        folder.mkdir()
        run(request, chunks, folder, lambda: self.lease.is_over)

    def _read(self, key: str) -> Iterator[bytes]:
        return self.place.storage.read(key)

    def _found(self) -> InspectionResult:
        """Store the files that the process left, and return the result."""
        report = Report.model_validate_json((self.folder / Task.inspect / REPORT).read_bytes())
        rows = self._stored(rows_key(*self.own), ROWS)
        hashes = self._stored(hashes_key(*self.own), HASHES)
        return InspectionResult(report, self._problems(PROBLEMS), self._problems(GROUPS), rows, hashes)

    def _problems(self, name: str) -> Iterator[Problem]:
        with (self.folder / Task.inspect / name).open("rb") as file:
            yield from map(Problem.model_validate_json, file)

    def _stored(self, key: str, name: str) -> StoredFile | None:
        path = self.folder / Task.inspect / name
        return self.place.storage.put_file(key, path, name) if path.exists() else None

    def _failed(self, code: str, message: str) -> InspectionResult:
        return InspectionResult.failed(Finding("", code, message), format_of(self.dataset))

    def _conclude(self, found: InspectionResult) -> None:
        with transaction(self.place.sessions, "conclude_inspection") as session:
            DatasetService(session).conclude(self.dataset, found)
