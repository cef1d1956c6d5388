"""Datasets, and what jobs use of them, in the database."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, exists, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from app.db.tables import Dataset, DatasetUse, DeadObject
from app.domain.dataset import DatasetState
from app.domain.page import Cursor

LEASE_SECONDS = 60.0
BYTES_A_SECOND = 5_000_000
"""Slowest inspection expected: the lease grows with the file, so that a large one is not inspected twice."""


class DatasetRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, dataset: Dataset) -> None:
        self.session.add(dataset)
        self.session.flush()

    def find(self, project_id: str, id: str) -> Dataset | None:
        return self.session.scalars(_one(project_id, id)).one_or_none()

    def find_locked(self, project_id: str, id: str, *, shared: bool) -> Dataset | None:
        """The dataset, kept from being deleted (`shared`), or kept from everyone, until the transaction ends."""
        query = _one(project_id, id).with_for_update(read=shared, key_share=shared)
        return self.session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def list(self, project_id: str, limit: int, after: Cursor | None) -> Sequence[Dataset]:
        """One more than `limit`, newest first."""
        query = select(Dataset).where(Dataset.project_id == project_id)
        if after:
            query = query.where(tuple_(Dataset.created_at, Dataset.id) < tuple_(after.created_at, after.id))
        return self.session.scalars(query.order_by(Dataset.created_at.desc(), Dataset.id.desc()).limit(limit + 1)).all()

    def expired(self, limit: int) -> Sequence[Dataset]:
        """Datasets of any project whose time is over and that no unfinished job seems to use, locked. Those that
        are being taken into use right now are left out."""
        in_use = exists().where(DatasetUse.dataset_id == Dataset.id, DatasetUse.active)
        query = (
            select(Dataset)
            .where(Dataset.expires_at <= func.clock_timestamp(), ~in_use)
            .order_by(Dataset.expires_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return self.session.scalars(query).all()

    def delete(self, dataset: Dataset) -> None:
        """Remove the row and the uses that name it; its stored bytes are left to the collector."""
        where = (DatasetUse.project_id == dataset.project_id, DatasetUse.dataset_id == dataset.id)
        self.session.execute(delete(DatasetUse).where(*where))
        self.session.execute(delete(Dataset).where(Dataset.project_id == dataset.project_id, Dataset.id == dataset.id))
        self.session.add(DeadObject(project_id=dataset.project_id, storage_key=dataset.storage_key))

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

    def states_used(self, project_id: str, job_id: str) -> Sequence[str]:
        query = (
            select(Dataset.state)
            .join(DatasetUse, DatasetUse.dataset_id == Dataset.id)
            .where(Dataset.project_id == project_id, DatasetUse.project_id == project_id, DatasetUse.job_id == job_id)
        )
        return self.session.scalars(query).all()

    def projects_to_inspect(self) -> Sequence[str]:
        """Ids of projects, all of which the light workers serve, with a dataset that nobody inspects."""
        return self.session.scalars(select(Dataset.project_id).where(*_waiting()).distinct()).all()

    def claim_for_inspection(self, lease_seconds: float = LEASE_SECONDS) -> Dataset | None:
        """The oldest dataset, of any project, that waits for its inspection; it is leased to the caller."""
        oldest = (
            select(Dataset.id)
            .where(*_waiting())
            .order_by(Dataset.created_at)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        lease = func.make_interval(0, 0, 0, 0, 0, 0, lease_seconds + Dataset.size / BYTES_A_SECOND)
        statement = (
            update(Dataset)
            .where(Dataset.id == oldest)
            .values(inspecting_until=func.clock_timestamp() + lease)
            .returning(Dataset)
        )
        return self.session.scalars(statement).one_or_none()

    def conclude(self, project_id: str, id: str, **values: Any) -> bool:
        """Write what an inspection found, unless the dataset is gone or another inspection was faster."""
        statement = (
            update(Dataset)
            .where(Dataset.project_id == project_id, Dataset.id == id, Dataset.state == DatasetState.inspecting)
            .values(inspecting_until=None, **values)
            .returning(Dataset.id)
        )
        return self.session.scalars(statement).one_or_none() is not None


def _one(project_id: str, id: str) -> Any:
    return select(Dataset).where(Dataset.project_id == project_id, Dataset.id == id)


def _waiting() -> tuple[Any, ...]:
    unleased = or_(Dataset.inspecting_until.is_(None), Dataset.inspecting_until < func.clock_timestamp())
    return Dataset.state == DatasetState.inspecting, unleased
