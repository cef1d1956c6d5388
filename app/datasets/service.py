"""Implements the actions on datasets, and stores the results of their inspection."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from sqlalchemy.orm import Session

from app.datasets.repository import DatasetRepository, ProblemFilter
from app.db.dataset_tables import DatasetProblemGroup
from app.db.tables import Dataset, DatasetProblem, DatasetUse
from app.domain.artifact import StoredFile
from app.domain.cursor import Cursor
from app.domain.datasets.formats import RecordFormat
from app.domain.datasets.problem import Finding, Problem
from app.domain.datasets.report import DatasetState, Report, failed_report
from app.domain.ids import is_id, new_id
from app.domain.storage_keys import dataset_key
from app.errors import DatasetInUse, DatasetNotFound, DatasetNotInspected, DatasetUploading, NoValidRows
from app.outbox import enqueue_wakeup
from app.set_aside import STRICT, SetAside

JOBS_NAMED = 10
MAX_STEM_CHARS = 200


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
        format: RecordFormat | None = None,
        *,
        columns: dict[str, str] | None = None,
        unsafe_filename: bool = False,
    ) -> Dataset:
        """Enter a dataset whose bytes are in storage, and enqueue a wake-up for its inspection, which detects a missing
        format."""
        dataset = self.add_uploading(
            project_id,
            id,
            filename,
            stored.key,
            stored.size,
            expires_after_seconds,
            format,
            columns=columns,
            unsafe_filename=unsafe_filename,
        )
        dataset.state, dataset.sha256 = DatasetState.inspecting, stored.sha256
        enqueue_wakeup(self.session, project_id, "light")
        return dataset

    def add_uploading(
        self,
        project_id: str,
        id: str,
        filename: str,
        storage_key: str,
        size: int,
        expires_after_seconds: float | None = None,
        format: RecordFormat | None = None,
        *,
        columns: dict[str, str] | None = None,
        unsafe_filename: bool = False,
    ) -> Dataset:
        """Enter a dataset whose bytes have not arrived, until `record_arrival` or `refuse`. Without a format, the
        inspection detects it."""
        dataset = Dataset(
            id=id,
            project_id=project_id,
            filename=filename,
            unsafe_filename=unsafe_filename,
            state=DatasetState.uploading,
            storage_key=storage_key,
            size=size,
            sha256="",
            format=format,
            columns=columns,
        )
        self.datasets.add(dataset)
        if expires_after_seconds is not None:
            dataset.expires_at = dataset.created_at + timedelta(seconds=expires_after_seconds)
        return dataset

    def record_arrival(self, project_id: str, id: str, stored: StoredFile) -> bool:
        """Record that an expected dataset's bytes have arrived, and enqueue a wake-up for their inspection. Return
        False if it was deleted."""
        dataset = self.datasets.find_locked(project_id, id, shared=False)
        if dataset is None:
            return False
        dataset.state, dataset.sha256 = DatasetState.inspecting, stored.sha256
        enqueue_wakeup(self.session, project_id, "light")
        return True

    def refuse(self, project_id: str, id: str, code: str, message: str) -> None:
        """Record that an expected dataset's bytes are not usable; does nothing if it was deleted."""
        dataset = self.datasets.find_locked(project_id, id, shared=False)
        if dataset is not None:
            dataset.state = DatasetState.inspecting
            self.session.flush()
            self.conclude(dataset, InspectionResult.failed(Finding("", code, message), format_of(dataset)))

    def find(self, project_id: str, id: str) -> Dataset | None:
        return self.datasets.find(project_id, id) if is_id(id, "file") else None

    def get(self, project_id: str, id: str) -> Dataset:
        dataset = self.find(project_id, id)
        if dataset is None:
            raise DatasetNotFound(id)
        return dataset

    def get_whole(self, project_id: str, id: str) -> Dataset:
        """Return a dataset whose bytes have all arrived."""
        dataset = self.get(project_id, id)
        if dataset.state == DatasetState.uploading:
            raise DatasetUploading(id)
        return dataset

    def list(
        self,
        project_id: str,
        limit: int,
        after: Cursor | None,
        states: Sequence[DatasetState] = (),
        sha256: str | None = None,
    ) -> Sequence[Dataset]:
        return self.datasets.list(project_id, limit, after, states, sha256)

    def problems(
        self, dataset: Dataset, wanted: ProblemFilter, limit: int, after: int, *, each_row: bool
    ) -> Sequence[DatasetProblem | DatasetProblemGroup]:
        """Return the stored problems: with equal ones grouped, or one by one by line."""
        find = self.datasets.problems if each_row else self.datasets.problem_groups
        return find(dataset.project_id, dataset.id, wanted, limit, after)

    def clean(self, project_id: str, id: str, *, drop_duplicates: bool) -> Dataset:
        """Enter a dataset that a light worker will make from the valid rows of another."""
        source = self.get(project_id, id)
        if source.state not in (DatasetState.ready, DatasetState.invalid) or source.report is None:
            raise DatasetNotInspected(id)
        report = Report.model_validate(source.report)
        if report.num_bad_rows == report.num_examples or source.format is None:
            raise NoValidRows(id)
        new = new_id("file")
        dataset = Dataset(
            id=new,
            project_id=project_id,
            filename=f"{Path(source.filename).stem[:MAX_STEM_CHARS]}.clean.jsonl",
            state=DatasetState.inspecting,
            storage_key=dataset_key(project_id, new),
            size=0,
            sha256=hashlib.sha256().hexdigest(),
            format=source.format,
            cleaned_from=id,
            drops_duplicates=drop_duplicates,
        )
        self.datasets.add(dataset)
        enqueue_wakeup(self.session, project_id, "light")
        return dataset

    def delete(self, project_id: str, id: str) -> None:
        dataset = self.datasets.find_locked(project_id, id, shared=False) if is_id(id, "file") else None
        if dataset is None:
            raise DatasetNotFound(id)
        if job_ids := self.datasets.active_job_ids(project_id, id, limit=JOBS_NAMED):
            raise DatasetInUse(id, list(job_ids))
        self.datasets.delete(dataset)

    def delete_expired(self, limit: int, aside: SetAside = STRICT) -> Sequence[str]:
        """Delete expired datasets of any project, except those that an unfinished job uses, and return their ids. A
        dataset that cannot be deleted is set aside."""
        deleted = []
        for dataset in self.datasets.expired(limit, aside.ids("datasets")):
            with aside.guard("datasets", dataset.id, self.session):
                # Queried again under the lock: a job may have been created just before.
                if not self.datasets.active_job_ids(dataset.project_id, dataset.id, limit=1):
                    self.datasets.delete(dataset)
                    self.session.flush()
                    deleted.append(dataset.id)
        return deleted

    def use(
        self,
        project_id: str,
        id: str,
        job_id: str,
        role: Literal["training", "validation"],
        max_bad_share: float = 0.0,
    ) -> None:
        """Record that a job, whose row exists already, reads the dataset until `release`, and leaves out up to this
        share of its rows if they are invalid."""
        if self.datasets.find_locked(project_id, id, shared=True) is None:
            raise DatasetNotFound(id)
        use = DatasetUse(project_id=project_id, dataset_id=id, job_id=job_id, role=role, max_bad_share=max_bad_share)
        self.datasets.add_use(use)

    def release(self, project_id: str, job_id: str) -> None:
        """Record that a job has ended: its datasets may be deleted again."""
        self.datasets.end_uses(project_id, job_id)

    def why_refused(self, project_id: str, job_id: str, objective: str) -> "Unusable":
        """Return why a job can never use its datasets: one is unusable, or has a format that does not match its
        objective."""
        used = self.datasets.used(project_id, job_id)
        for dataset, share in used:
            if (unusable := why_unusable(dataset, share)) is not None:
                return unusable
        mismatch = next(found for dataset, _ in used if (found := mismatch_of(dataset, objective)) is not None)
        return Unusable("dataset_invalid", mismatch.message)

    def projects_with_work(self) -> Sequence[str]:
        """Return the ids of the projects with datasets that wait for an inspection."""
        return self.datasets.projects_to_inspect()

    def keep_made(self, dataset: Dataset, stored: StoredFile) -> bool:
        """Record that the bytes of a cleaned dataset are in storage; its inspection follows. Return False if it was
        deleted or another worker has it."""
        values = {"storage_key": stored.key, "size": stored.size, "sha256": stored.sha256}
        return self.datasets.update_inspecting(dataset, **values)

    def conclude(self, dataset: Dataset, found: "InspectionResult") -> None:
        """Store the result of an inspection, and enqueue a wake-up for the jobs that waited for it. `dataset` is as it
        was claimed: nothing is stored for one that was deleted or that another worker has claimed."""
        report, rows, hashes = found.report, found.rows, found.hashes
        concluded = self.datasets.conclude(
            dataset,
            state=DatasetState.ready if report.valid else DatasetState.invalid,
            format=report.format,
            num_examples=report.num_examples,
            report=report.model_dump(mode="json"),
            bad_share=report.bad_share,
            container=report.statistics.container,
            compression=report.statistics.compression,
            rows_key=rows and rows.key,
            rows_size=rows and rows.size,
            rows_sha256=rows and rows.sha256,
            hashes_key=hashes and hashes.key,
        )
        if concluded:
            self.datasets.add_problems(dataset.project_id, dataset.id, found.problems)
            self.datasets.add_problem_groups(dataset.project_id, dataset.id, found.groups)
            enqueue_wakeup(self.session, dataset.project_id, "training")
        else:
            self.datasets.mark_deleted(dataset.project_id, [file.key for file in (rows, hashes) if file is not None])


class InspectionResult(NamedTuple):
    """Holds the result of an inspection. Its files are already in storage."""

    report: Report
    problems: Iterable[Problem]
    """Holds all stored problems, ordered by line."""
    groups: Iterable[Problem]
    """Holds the same problems, with equal ones grouped."""
    rows: StoredFile | None
    """Holds the rows as JSON Lines; None if the upload already is JSON Lines."""
    hashes: StoredFile | None
    """Is None if nothing was read."""

    @classmethod
    def failed(cls, finding: Finding, format: RecordFormat | None) -> "InspectionResult":
        """Return the result for a file that was not read at all."""
        report = failed_report(finding, format)
        return cls(report, report.problems, report.problems, None, None)


class Unusable(NamedTuple):
    reason: Literal["dataset_invalid", "too_many_bad_rows"]
    message: str


def why_unusable(dataset: Dataset, max_bad_share: float) -> Unusable | None:
    """Return why a job that may leave out this share of the rows cannot use an inspected dataset."""
    share = dataset.bad_share
    if dataset.state != DatasetState.invalid or (share is not None and share <= max_bad_share):
        return None
    see_problems = f"GET /datasets/{dataset.id} lists its problems"
    if share is None:
        hint = " Skipping bad rows does not help: the problems are not limited to single rows." if max_bad_share else ""
        return Unusable("dataset_invalid", f"Dataset {dataset.id} is invalid; {see_problems}.{hint}")
    num_bad = Report.model_validate(dataset.report).num_bad_rows
    bad = f"{num_bad:,} of its {dataset.num_examples:,} rows are bad ({share:.2%})"
    if max_bad_share == 0:
        message = f"Dataset {dataset.id} is invalid; {see_problems}. {bad}; on_bad_rows can skip them."
        return Unusable("dataset_invalid", message)
    allowed = f"more than the {max_bad_share:.2%} that on_bad_rows allows"
    return Unusable("too_many_bad_rows", f"Dataset {dataset.id} is invalid: {bad}, {allowed}. {see_problems}.")


class Mismatch(NamedTuple):
    code: Literal["preference_dataset", "not_preference_dataset"]
    message: str


def mismatch_of(dataset: Dataset, objective: object) -> Mismatch | None:
    """Return why an objective cannot train on an inspected dataset's format; None while that is not known."""
    holds_pairs = dataset.format == RecordFormat.preference
    if objective == "sft" and holds_pairs:
        message = (
            f'Dataset {dataset.id} has the format preference, which the objective "sft" does not support; use "dpo".'
        )
        return Mismatch("preference_dataset", message)
    if objective == "dpo" and dataset.format is not None and not holds_pairs:
        keys = "prompt, chosen and rejected (or input, preferred_output and non_preferred_output)"
        message = f'Dataset {dataset.id} has the format {dataset.format}; the objective "dpo" needs {keys}.'
        return Mismatch("not_preference_dataset", message)
    return None


def rows_of(dataset: Dataset) -> StoredFile:
    """Return the rows of an inspected dataset as JSON Lines, including invalid ones."""
    if dataset.rows_key is None:
        return StoredFile(path="rows.jsonl", key=dataset.storage_key, size=dataset.size, sha256=dataset.sha256)
    assert dataset.rows_size is not None
    assert dataset.rows_sha256 is not None
    return StoredFile(path="rows.jsonl", key=dataset.rows_key, size=dataset.rows_size, sha256=dataset.rows_sha256)


def format_of(dataset: Dataset) -> RecordFormat | None:
    return RecordFormat(dataset.format) if dataset.format else None
