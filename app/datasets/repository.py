"""Stores datasets, and which jobs use them, in the database."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import delete, exists, func, insert, or_, select, update
from sqlalchemy.orm import Session

from app.db.base import select_page
from app.db.dataset_tables import DatasetProblemGroup
from app.db.tables import Dataset, DatasetProblem, DatasetUse, DeletedObject
from app.domain.cursor import Cursor
from app.domain.datasets.problem import Problem, Severity
from app.domain.datasets.report import DatasetState
from app.projects.repository import is_being_deleted

PROBLEMS_PER_STATEMENT = 1000


class ProblemFilter(NamedTuple):
    code: str | None = None
    severity: Severity | None = None


class DatasetRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, dataset: Dataset) -> None:
        self.session.add(dataset)
        self.session.flush()

    def find(self, project_id: str, id: str) -> Dataset | None:
        return self.session.scalars(_one(project_id, id)).one_or_none()

    def find_locked(self, project_id: str, id: str, *, shared: bool) -> Dataset | None:
        """Find the dataset, locked until the transaction ends: only against deletion (`shared`), or completely."""
        query = _one(project_id, id).with_for_update(read=shared, key_share=shared)
        return self.session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def list(
        self,
        project_id: str,
        limit: int,
        after: Cursor | None,
        states: Sequence[DatasetState] = (),
        sha256: str | None = None,
    ) -> Sequence[Dataset]:
        """Return one more than `limit`, newest first; in any state and with any bytes unless some are named."""
        query = select(Dataset).where(Dataset.project_id == project_id)
        if sha256 is not None:
            query = query.where(Dataset.sha256 == sha256)
        if states:
            query = query.where(Dataset.state.in_(states))
        return self.session.scalars(select_page(query, Dataset, limit, after)).all()

    def expired(self, limit: int, but: Sequence[str] = ()) -> Sequence[Dataset]:
        """Return the expired datasets of any project that no unfinished job seems to use, locked. Those that a job is
        just starting to use are left out."""
        in_use = exists().where(DatasetUse.dataset_id == Dataset.id, DatasetUse.active)
        query = (
            select(Dataset)
            .where(Dataset.expires_at <= func.statement_timestamp(), ~in_use, Dataset.id.not_in(but))
            .order_by(Dataset.expires_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return self.session.scalars(query).all()

    def delete(self, dataset: Dataset) -> None:
        """Delete the row, its problems and the uses that name it; the collector deletes its stored bytes."""
        for table in (DatasetUse, DatasetProblem, DatasetProblemGroup):
            where = (table.project_id == dataset.project_id, table.dataset_id == dataset.id)
            self.session.execute(delete(table).where(*where))
        self.session.execute(delete(Dataset).where(Dataset.project_id == dataset.project_id, Dataset.id == dataset.id))
        keys = (dataset.storage_key, dataset.rows_key, dataset.hashes_key)
        self.mark_deleted(dataset.project_id, [key for key in keys if key is not None])

    def mark_deleted(self, project_id: str, keys: Iterable[str]) -> None:
        """Mark bytes for deletion by the collector, which spares those that a row names."""
        self.session.add_all(DeletedObject(project_id=project_id, storage_key=key) for key in keys)

    def add_use(self, use: DatasetUse) -> None:
        self.session.add(use)
        self.session.flush()

    def active_job_ids(self, project_id: str, id: str, limit: int) -> Sequence[str]:
        query = (
            select(DatasetUse.job_id)
            .where(DatasetUse.project_id == project_id, DatasetUse.dataset_id == id, DatasetUse.active)
            .distinct()
            .order_by(DatasetUse.job_id)
            .limit(limit)
        )
        return self.session.scalars(query).all()

    def end_uses(self, project_id: str, job_id: str) -> None:
        where = (DatasetUse.project_id == project_id, DatasetUse.job_id == job_id)
        self.session.execute(update(DatasetUse).where(*where).values(active=False))

    def used(self, project_id: str, job_id: str) -> Sequence[tuple[Dataset, float]]:
        """Return the datasets that a job uses, each with the share of its rows that may be left out."""
        query = (
            select(Dataset, DatasetUse.max_bad_share)
            .join(DatasetUse, DatasetUse.dataset_id == Dataset.id)
            .where(Dataset.project_id == project_id, DatasetUse.project_id == project_id, DatasetUse.job_id == job_id)
        )
        return [(dataset, share) for dataset, share in self.session.execute(query)]

    def projects_to_inspect(self) -> Sequence[str]:
        """Return the ids of all projects with a dataset that waits for inspection and that no worker holds; light
        workers serve all projects."""
        return self.session.scalars(select(Dataset.project_id).where(*_waiting()).distinct()).all()

    def claim_for_inspection(self, worker_id: str, lease_seconds: float) -> Dataset | None:
        """Claim the oldest dataset, of any project, that waits for its inspection; lease it to the caller."""
        oldest = (
            select(Dataset.id)
            .where(*_waiting())
            .order_by(Dataset.created_at)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        statement = (
            update(Dataset)
            .where(Dataset.id == oldest)
            .values(inspecting_until=_lease_end(lease_seconds), worker_id=worker_id, attempt=Dataset.attempt + 1)
            .returning(Dataset)
        )
        return self.session.scalars(statement).one_or_none()

    def update_inspecting(self, claimed: Dataset, **values: Any) -> bool:
        """Update a dataset under inspection, as it was claimed. Return False if it was deleted, has been inspected, or
        another worker has it."""
        statement = (
            update(Dataset)
            .where(
                Dataset.project_id == claimed.project_id,
                Dataset.id == claimed.id,
                Dataset.state == DatasetState.inspecting,
                Dataset.attempt == claimed.attempt,
                Dataset.worker_id.is_not_distinct_from(claimed.worker_id),
            )
            .values(**values)
            .returning(Dataset.id)
        )
        return self.session.scalars(statement).one_or_none() is not None

    def renew(self, claimed: Dataset, lease_seconds: float) -> bool:
        return self.update_inspecting(claimed, inspecting_until=_lease_end(lease_seconds))

    def give_back(self, claimed: Dataset) -> bool:
        """Release the dataset so that another worker can start at once."""
        return self.update_inspecting(claimed, inspecting_until=None)

    def conclude(self, claimed: Dataset, **values: Any) -> bool:
        return self.update_inspecting(claimed, inspecting_until=None, **values)

    def add_problems(self, project_id: str, id: str, problems: Iterable[Problem]) -> None:
        self._add(DatasetProblem, project_id, id, problems, exclude={"count", "lines"})

    def add_problem_groups(self, project_id: str, id: str, groups: Iterable[Problem]) -> None:
        self._add(DatasetProblemGroup, project_id, id, groups)

    def _add(
        self,
        table: type[DatasetProblem | DatasetProblemGroup],
        project_id: str,
        id: str,
        problems: Iterable[Problem],
        exclude: set[str] | None = None,
    ) -> None:
        owner = {"project_id": project_id, "dataset_id": id}
        numbered = iter(enumerate(problems, start=1))
        while batch := list(islice(numbered, PROBLEMS_PER_STATEMENT)):
            rows = [
                owner | {"number": number} | each.model_dump(mode="json", exclude=exclude) for number, each in batch
            ]
            self.session.execute(insert(table), rows)

    def problems(
        self, project_id: str, id: str, wanted: ProblemFilter, limit: int, after: int
    ) -> Sequence[DatasetProblem]:
        """Return one more than `limit`, ordered by line."""
        return self.session.scalars(_problems(DatasetProblem, project_id, id, wanted, limit, after)).all()

    def problem_groups(
        self, project_id: str, id: str, wanted: ProblemFilter, limit: int, after: int
    ) -> Sequence[DatasetProblemGroup]:
        """Return one more than `limit`, in their order."""
        return self.session.scalars(_problems(DatasetProblemGroup, project_id, id, wanted, limit, after)).all()


def _problems(table: Any, project_id: str, id: str, wanted: ProblemFilter, limit: int, after: int) -> Any:
    query = select(table).where(table.project_id == project_id, table.dataset_id == id, table.number > after)
    if wanted.code is not None:
        query = query.where(table.code == wanted.code)
    if wanted.severity is not None:
        query = query.where(table.severity == wanted.severity)
    return query.order_by(table.number).limit(limit + 1)


def _lease_end(seconds: float) -> Any:
    return func.clock_timestamp() + timedelta(seconds=seconds)


def _one(project_id: str, id: str) -> Any:
    return select(Dataset).where(Dataset.project_id == project_id, Dataset.id == id)


def _waiting() -> tuple[Any, ...]:
    unleased = or_(Dataset.inspecting_until.is_(None), Dataset.inspecting_until < func.clock_timestamp())
    return Dataset.state == DatasetState.inspecting, unleased, ~is_being_deleted(Dataset.project_id)
