"""What may be done with a dataset, and its inspection."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from sqlalchemy.orm import Session

from app.datasets.repository import LEASE_SECONDS, DatasetRepository
from app.db.session import Sessions, transaction
from app.db.tables import Dataset, DatasetUse
from app.domain.artifact import StoredFile
from app.domain.dataset import DatasetState, Problem, Report, inspect, split_lines
from app.domain.identity import is_id
from app.domain.page import Cursor
from app.domain.record import RecordFormat
from app.errors import DatasetInUse, DatasetNotFound, DatasetUploading
from app.outbox import ring
from app.storage import Storage

JOBS_NAMED = 10


class DatasetService:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.datasets = DatasetRepository(session)

    def add(
        self,
        project_id: str,
        id: str,
        filename: str,
        stored: StoredFile,
        expires_after_seconds: float | None = None,
    ) -> Dataset:
        """Enter bytes that storage holds, and ring for their inspection."""
        dataset = self.expect(project_id, id, filename, stored.key, stored.size, expires_after_seconds)
        dataset.state, dataset.sha256 = DatasetState.inspecting, stored.sha256
        ring(self.session, project_id, "light")
        return dataset

    def expect(
        self,
        project_id: str,
        id: str,
        filename: str,
        storage_key: str,
        size: int,
        expires_after_seconds: float | None = None,
        format: RecordFormat | None = None,
    ) -> Dataset:
        """Enter a dataset whose bytes are on their way, until `arrive` or `refuse`."""
        dataset = Dataset(
            id=id,
            project_id=project_id,
            filename=filename,
            state=DatasetState.uploading,
            storage_key=storage_key,
            size=size,
            sha256="",
            format=format,
        )
        self.datasets.add(dataset)
        if expires_after_seconds is not None:
            dataset.expires_at = dataset.created_at + timedelta(seconds=expires_after_seconds)
        return dataset

    def arrive(self, project_id: str, id: str, stored: StoredFile) -> bool:
        """The bytes of an expected dataset are there: ring for their inspection. False if it was deleted meanwhile."""
        dataset = self.datasets.find_locked(project_id, id, shared=False)
        if dataset is None:
            return False
        dataset.state, dataset.sha256 = DatasetState.inspecting, stored.sha256
        ring(self.session, project_id, "light")
        return True

    def refuse(self, project_id: str, id: str, code: str, message: str) -> None:
        """An expected dataset is not what was to come; nothing if it was deleted meanwhile."""
        dataset = self.datasets.find_locked(project_id, id, shared=False)
        if dataset is not None:
            dataset.state = DatasetState.inspecting
            self.session.flush()
            problem = Problem(line=1, pointer="", code=code, message=message)
            self.conclude(dataset, Report(format=None, num_examples=0, problems=[problem], problem_counts={code: 1}))

    def find(self, project_id: str, id: str) -> Dataset | None:
        return self.datasets.find(project_id, id) if is_id(id, "file") else None

    def get(self, project_id: str, id: str) -> Dataset:
        dataset = self.find(project_id, id)
        if dataset is None:
            raise DatasetNotFound(id)
        return dataset

    def get_whole(self, project_id: str, id: str) -> Dataset:
        """One whose bytes have all arrived."""
        dataset = self.get(project_id, id)
        if dataset.state == DatasetState.uploading:
            raise DatasetUploading(id)
        return dataset

    def list(self, project_id: str, limit: int, after: Cursor | None) -> Sequence[Dataset]:
        return self.datasets.list(project_id, limit, after)

    def delete(self, project_id: str, id: str) -> None:
        dataset = self.datasets.find_locked(project_id, id, shared=False) if is_id(id, "file") else None
        if dataset is None:
            raise DatasetNotFound(id)
        if job_ids := self.datasets.active_job_ids(project_id, id, limit=JOBS_NAMED):
            raise DatasetInUse(id, list(job_ids))
        self.datasets.delete(dataset)

    def delete_expired(self, limit: int) -> Sequence[str]:
        """Delete datasets of any project whose time is over, but none that an unfinished job uses; their ids."""
        deleted = []
        for dataset in self.datasets.expired(limit):
            # Looked for again under the lock: the job may have been posted a moment before it was taken.
            if not self.datasets.active_job_ids(dataset.project_id, dataset.id, limit=1):
                self.datasets.delete(dataset)
                deleted.append(dataset.id)
        return deleted

    def use(self, project_id: str, id: str, job_id: str, role: Literal["training", "validation"]) -> None:
        """Note that a job, whose row is there already, reads the dataset until `release`."""
        if self.datasets.find_locked(project_id, id, shared=True) is None:
            raise DatasetNotFound(id)
        self.datasets.add_use(DatasetUse(project_id=project_id, dataset_id=id, job_id=job_id, role=role))

    def release(self, project_id: str, job_id: str) -> None:
        """A job has ended: its datasets may be deleted again."""
        self.datasets.end_uses(project_id, job_id)

    def uses_are_ready(self, project_id: str, job_id: str) -> bool:
        """Whether every dataset that a job uses has passed its inspection."""
        return all(state == DatasetState.ready for state in self.datasets.states_used(project_id, job_id))

    def projects_with_work(self) -> Sequence[str]:
        """Ids of projects with datasets that wait for an inspection."""
        return self.datasets.projects_to_inspect()

    def conclude(self, dataset: Dataset, report: Report) -> None:
        """Keep an inspection's report, and ring for the jobs that waited for it."""
        concluded = self.datasets.conclude(
            dataset.project_id,
            dataset.id,
            state=DatasetState.ready if report.valid else DatasetState.invalid,
            format=report.format,
            num_examples=report.num_examples,
            report=report.model_dump(mode="json"),
        )
        if concluded:
            ring(self.session, dataset.project_id, "training")


def inspect_next(sessions: Sessions, storage: Storage, lease_seconds: float = LEASE_SECONDS) -> bool:
    """Inspect one dataset that waits for it, of whatever project; whether there was one.

    The file is read outside any transaction. A crash meanwhile leaves a lease that lapses.
    """
    with transaction(sessions, "claim_inspection") as session:
        dataset = DatasetRepository(session).claim_for_inspection(lease_seconds)
    if dataset is None:
        return False
    try:
        report = inspect(split_lines(storage.read(dataset.storage_key)))
    except FileNotFoundError:
        lost = Problem(line=1, pointer="", code="bytes_lost", message="Storage has lost the file; upload it again.")
        report = Report(format=None, num_examples=0, problems=[lost], problem_counts={lost.code: 1})
    with transaction(sessions, "conclude_inspection") as session:
        DatasetService(session).conclude(dataset, report)
    return True
