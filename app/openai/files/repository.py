"""Reads files as OpenAI defines them: datasets and the outputs of jobs in one list."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self

from sqlalchemy import ColumnElement, Select, case, literal, null, select, tuple_, union_all
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.types import DateTime, Text

from app.db.tables import Artifact, Dataset
from app.domain.artifact import RESULT_FILES
from app.domain.datasets.report import DatasetState
from app.domain.ids import is_id

Purpose = Literal["fine-tune", "fine-tune-results"]
Arm = tuple[Select[*tuple[Any, ...]], type[Dataset] | type[Artifact]]
"""Is one part of the list, and the table that provides its ages and ids."""


class File(NamedTuple):
    id: str
    created_at: datetime
    filename: str
    bytes: int
    purpose: Purpose
    state: DatasetState
    """Is `ready` for a result."""
    expires_at: datetime | None
    storage_key: str
    sha256: str
    job_id: str | None
    """Identifies the job that made it; None for a dataset."""
    problem_counts: dict[str, int] | None
    """Is set for an invalid dataset, as is the next field."""
    first_problem: dict[str, Any] | None

    @classmethod
    def fresh(cls, dataset: Dataset) -> Self:
        """Return the file of a dataset that was just created."""
        return cls(
            id=dataset.id,
            created_at=dataset.created_at,
            filename=dataset.filename,
            bytes=dataset.size,
            purpose="fine-tune",
            state=DatasetState(dataset.state),
            expires_at=dataset.expires_at,
            storage_key=dataset.storage_key,
            sha256=dataset.sha256,
            job_id=None,
            problem_counts=None,
            first_problem=None,
        )


class FileRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def find(self, project_id: str, id: str) -> File | None:
        if is_id(id, "file"):
            found = self._files(_datasets(project_id).where(Dataset.id == id))
        else:
            found = self._files(_results(project_id).where(Artifact.id == id)) if is_id(id, "art") else []
        return found[0] if found else None

    def list(
        self, project_id: str, purpose: str | None, limit: int, after: File | None, *, ascending: bool
    ) -> Sequence[File]:
        """Return one more than `limit`."""
        arms: dict[str, Arm] = {
            "fine-tune": (_datasets(project_id), Dataset),
            "fine-tune-results": (_results(project_id), Artifact),
        }
        cut = [
            _limit_arm(arm, limit + 1, after, ascending=ascending)
            for name, arm in arms.items()
            if purpose in (None, name)
        ]
        return self._files(*cut, limit=limit + 1, ascending=ascending) if cut else []

    def _files(self, *queries: Select[*tuple[Any, ...]], limit: int = 1, ascending: bool = False) -> Sequence[File]:
        files = union_all(*queries).subquery()
        ordered = select(files).order_by(*_order_by(files.c.created_at, files.c.id, ascending=ascending))
        rows = self.session.execute(ordered.limit(limit)).mappings()
        return [File(**{**row, "state": DatasetState(row["state"])}) for row in rows]


def _limit_arm(arm: Arm, limit: int, after: File | None, *, ascending: bool) -> Select[*tuple[Any, ...]]:
    """Limit an arm to the size of a page, so that its index is read and not all of its rows."""
    query, table = arm
    if after:
        place, last = tuple_(table.created_at, table.id), tuple_(literal(after.created_at), literal(after.id))
        query = query.where(place > last if ascending else place < last)
    return query.order_by(*_order_by(table.created_at, table.id, ascending=ascending)).limit(limit)


def _order_by(*columns: ColumnElement[Any] | InstrumentedAttribute[Any], ascending: bool) -> list[Any]:
    return [column.asc() if ascending else column.desc() for column in columns]


def _datasets(project_id: str) -> Select[*tuple[Any, ...]]:
    is_invalid = Dataset.state == DatasetState.invalid
    return select(
        Dataset.id,
        Dataset.created_at,
        Dataset.filename,
        Dataset.size.label("bytes"),
        literal("fine-tune").label("purpose"),
        Dataset.state,
        Dataset.expires_at,
        Dataset.storage_key,
        Dataset.sha256,
        null().cast(Text).label("job_id"),
        case((is_invalid, Dataset.report["problem_counts"])).label("problem_counts"),
        case((is_invalid, Dataset.report["problems"][0])).label("first_problem"),
    ).where(Dataset.project_id == project_id)


def _results(project_id: str) -> Select[*tuple[Any, ...]]:
    return select(
        Artifact.id,
        Artifact.created_at,
        Artifact.path.label("filename"),
        Artifact.size.label("bytes"),
        literal("fine-tune-results").label("purpose"),
        literal(DatasetState.ready.value).label("state"),
        null().cast(DateTime(timezone=True)).label("expires_at"),
        Artifact.storage_key,
        Artifact.sha256,
        Artifact.job_id,
        null().cast(JSONB).label("problem_counts"),
        null().cast(JSONB).label("first_problem"),
    ).where(Artifact.project_id == project_id, Artifact.kind.in_(RESULT_FILES))
