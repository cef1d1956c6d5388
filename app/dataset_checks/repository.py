"""Studies of datasets in the database."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, exists, func, or_, select, tuple_, update
from sqlalchemy.orm import Session, defer

from app.db.project_tables import is_being_deleted
from app.db.tables import Dataset, DatasetStudy
from app.domain.cursor import Cursor
from app.domain.dataset_checks.state import StudyKind, StudyState
from app.domain.datasets.report import DatasetState

UNINSPECTED = (DatasetState.uploading, DatasetState.inspecting)


class StudyRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, study: DatasetStudy) -> None:
        self.session.add(study)
        self.session.flush()
        self.session.refresh(study)

    def find(self, project_id: str, dataset_id: str, kind: StudyKind, id: str) -> DatasetStudy | None:
        query = select(DatasetStudy).where(*_of(project_id, dataset_id, kind), DatasetStudy.id == id)
        return self.session.scalars(query).one_or_none()

    def list(
        self,
        project_id: str,
        dataset_id: str,
        kind: StudyKind,
        limit: int,
        after: Cursor | None,
        states: Sequence[StudyState],
    ) -> Sequence[DatasetStudy]:
        """One more than `limit`, newest first, without what they show; of any state unless some are named."""
        query = select(DatasetStudy).where(*_of(project_id, dataset_id, kind))
        if states:
            query = query.where(DatasetStudy.state.in_(states))
        if after:
            below = tuple_(DatasetStudy.created_at, DatasetStudy.id) < tuple_(after.created_at, after.id)
            query = query.where(below)
        query = query.options(defer(DatasetStudy.shown, raiseload=True))
        newest = query.order_by(DatasetStudy.created_at.desc(), DatasetStudy.id.desc())
        return self.session.scalars(newest.limit(limit + 1)).all()

    def keep_newest(self, project_id: str, dataset_id: str, kind: StudyKind, count: int) -> None:
        mine = _of(project_id, dataset_id, kind)
        newest = select(DatasetStudy.id).where(*mine).order_by(DatasetStudy.created_at.desc(), DatasetStudy.id.desc())
        self.session.execute(delete(DatasetStudy).where(*mine, DatasetStudy.id.not_in(newest.limit(count))))

    def projects_to_serve(self) -> Sequence[str]:
        """Ids of projects, all of which the light workers serve, with a study that nobody is at and could be."""
        return self.session.scalars(select(DatasetStudy.project_id).where(*_waiting()).distinct()).all()

    def claim(self, worker_id: str, lease_seconds: float) -> DatasetStudy | None:
        """The oldest study, of any project, that waits and whose datasets are inspected; it is leased to the caller."""
        oldest = (
            select(DatasetStudy.id)
            .where(*_waiting())
            .order_by(DatasetStudy.created_at)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        lease = {"leased_until": _lease_end(lease_seconds), "worker_id": worker_id, "attempt": DatasetStudy.attempt + 1}
        statement = update(DatasetStudy).where(DatasetStudy.id == oldest).values(lease).returning(DatasetStudy)
        return self.session.scalars(statement).one_or_none()

    def update_pending(self, claimed: DatasetStudy, **values: Any) -> bool:
        """Write of a study, as it was claimed; False if it is gone, has ended, or another worker has it."""
        statement = (
            update(DatasetStudy)
            .where(
                DatasetStudy.project_id == claimed.project_id,
                DatasetStudy.id == claimed.id,
                DatasetStudy.state == StudyState.pending,
                DatasetStudy.attempt == claimed.attempt,
                DatasetStudy.worker_id.is_not_distinct_from(claimed.worker_id),
            )
            .values(**values)
            .returning(DatasetStudy.id)
        )
        return self.session.scalars(statement).one_or_none() is not None

    def renew(self, claimed: DatasetStudy, lease_seconds: float) -> bool:
        return self.update_pending(claimed, leased_until=_lease_end(lease_seconds))

    def give_back(self, claimed: DatasetStudy) -> bool:
        """Let another worker begin at once."""
        return self.update_pending(claimed, leased_until=None)

    def conclude(self, claimed: DatasetStudy, state: StudyState, **values: Any) -> bool:
        ended = {"state": state, "leased_until": None, "finished_at": func.clock_timestamp()}
        return self.update_pending(claimed, **ended, **values)


def _of(project_id: str, dataset_id: str, kind: StudyKind) -> tuple[Any, ...]:
    return DatasetStudy.project_id == project_id, DatasetStudy.dataset_id == dataset_id, DatasetStudy.kind == kind


def _lease_end(seconds: float) -> Any:
    return func.clock_timestamp() + timedelta(seconds=seconds)


def _waiting() -> tuple[Any, ...]:
    unleased = or_(DatasetStudy.leased_until.is_(None), DatasetStudy.leased_until < func.clock_timestamp())
    uninspected = exists().where(
        Dataset.id.in_((DatasetStudy.dataset_id, DatasetStudy.other_dataset_id)), Dataset.state.in_(UNINSPECTED)
    )
    wanted = ~is_being_deleted(DatasetStudy.project_id)
    return DatasetStudy.state == StudyState.pending, unleased, ~uninspected, wanted
