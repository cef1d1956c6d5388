"""Stores dataset checks in the database."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.orm import Session, defer

from app.db.base import select_page
from app.db.tables import Dataset, DatasetCheck
from app.domain.cursor import Cursor
from app.domain.dataset_checks.state import DatasetCheckKind, DatasetCheckState
from app.domain.datasets.report import DatasetState
from app.projects.repository import is_being_deleted

UNINSPECTED = (DatasetState.uploading, DatasetState.inspecting)


class DatasetCheckRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, check: DatasetCheck) -> None:
        self.session.add(check)
        self.session.flush()
        self.session.refresh(check)

    def find(self, project_id: str, dataset_id: str, kind: DatasetCheckKind, id: str) -> DatasetCheck | None:
        query = select(DatasetCheck).where(*_of(project_id, dataset_id, kind), DatasetCheck.id == id)
        return self.session.scalars(query).one_or_none()

    def list(
        self,
        project_id: str,
        dataset_id: str,
        kind: DatasetCheckKind,
        limit: int,
        after: Cursor | None,
        states: Sequence[DatasetCheckState],
    ) -> Sequence[DatasetCheck]:
        """Return one more than `limit`, newest first, without their results; in any state unless some are named."""
        query = select(DatasetCheck).where(*_of(project_id, dataset_id, kind))
        if states:
            query = query.where(DatasetCheck.state.in_(states))
        query = query.options(defer(DatasetCheck.shown, raiseload=True))
        return self.session.scalars(select_page(query, DatasetCheck, limit, after)).all()

    def keep_newest(self, project_id: str, dataset_id: str, kind: DatasetCheckKind, count: int) -> None:
        mine = _of(project_id, dataset_id, kind)
        newest = select(DatasetCheck.id).where(*mine).order_by(DatasetCheck.created_at.desc(), DatasetCheck.id.desc())
        self.session.execute(delete(DatasetCheck).where(*mine, DatasetCheck.id.not_in(newest.limit(count))))

    def projects_to_serve(self) -> Sequence[str]:
        """Return the ids of all projects with a dataset check that waits and that no worker has claimed."""
        return self.session.scalars(select(DatasetCheck.project_id).where(*_waiting()).distinct()).all()

    def claim(self, worker_id: str, lease_seconds: float) -> DatasetCheck | None:
        """Claim the oldest dataset check, of any project, that waits and whose datasets are inspected; lease it to the
        caller."""
        oldest = (
            select(DatasetCheck.id)
            .where(*_waiting())
            .order_by(DatasetCheck.created_at)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        lease = {"leased_until": _lease_end(lease_seconds), "worker_id": worker_id, "attempt": DatasetCheck.attempt + 1}
        statement = update(DatasetCheck).where(DatasetCheck.id == oldest).values(lease).returning(DatasetCheck)
        return self.session.scalars(statement).one_or_none()

    def update_pending(self, claimed: DatasetCheck, **values: Any) -> bool:
        """Update a dataset check, as it was claimed. Return False if it was deleted, has ended, or another worker has
        it."""
        statement = (
            update(DatasetCheck)
            .where(
                DatasetCheck.project_id == claimed.project_id,
                DatasetCheck.id == claimed.id,
                DatasetCheck.state == DatasetCheckState.pending,
                DatasetCheck.attempt == claimed.attempt,
                DatasetCheck.worker_id.is_not_distinct_from(claimed.worker_id),
            )
            .values(**values)
            .returning(DatasetCheck.id)
        )
        return self.session.scalars(statement).one_or_none() is not None

    def renew(self, claimed: DatasetCheck, lease_seconds: float) -> bool:
        return self.update_pending(claimed, leased_until=_lease_end(lease_seconds))

    def give_back(self, claimed: DatasetCheck) -> bool:
        """Release the dataset check so that another worker can start at once."""
        return self.update_pending(claimed, leased_until=None)

    def conclude(self, claimed: DatasetCheck, state: DatasetCheckState, **values: Any) -> bool:
        ended = {"state": state, "leased_until": None, "finished_at": func.clock_timestamp()}
        return self.update_pending(claimed, **ended, **values)


def _of(project_id: str, dataset_id: str, kind: DatasetCheckKind) -> tuple[Any, ...]:
    return DatasetCheck.project_id == project_id, DatasetCheck.dataset_id == dataset_id, DatasetCheck.kind == kind


def _lease_end(seconds: float) -> Any:
    return func.clock_timestamp() + timedelta(seconds=seconds)


def _waiting() -> tuple[Any, ...]:
    unleased = or_(DatasetCheck.leased_until.is_(None), DatasetCheck.leased_until < func.clock_timestamp())
    uninspected = exists().where(
        Dataset.id.in_((DatasetCheck.dataset_id, DatasetCheck.other_dataset_id)), Dataset.state.in_(UNINSPECTED)
    )
    wanted = ~is_being_deleted(DatasetCheck.project_id)
    return DatasetCheck.state == DatasetCheckState.pending, unleased, ~uninspected, wanted
