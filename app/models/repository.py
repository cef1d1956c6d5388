"""The catalogue of base models in the database."""

from collections.abc import Sequence

from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import BaseModel
from app.domain.page import Cursor


class ModelRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add_unless_named(self, **values: object) -> None:
        """Insert, or do nothing if the project has a model of that name."""
        self.session.execute(insert(BaseModel).values(**values).on_conflict_do_nothing())

    def find(self, project_id: str, name: str) -> BaseModel | None:
        query = select(BaseModel).where(BaseModel.project_id == project_id, BaseModel.name == name)
        return self.session.scalars(query).one_or_none()

    def list(self, project_id: str, limit: int, after: Cursor | None) -> Sequence[BaseModel]:
        """One more than `limit`, newest first."""
        query = select(BaseModel).where(BaseModel.project_id == project_id)
        if after:
            query = query.where(tuple_(BaseModel.created_at, BaseModel.id) < tuple_(after.created_at, after.id))
        newest = query.order_by(BaseModel.created_at.desc(), BaseModel.id.desc())
        return self.session.scalars(newest.limit(limit + 1)).all()

    def all(self, project_id: str) -> Sequence[BaseModel]:
        """By name."""
        query = select(BaseModel).where(BaseModel.project_id == project_id).order_by(BaseModel.name)
        return self.session.scalars(query).all()

    def remove(self, project_id: str, name: str) -> bool:
        statement = delete(BaseModel).where(BaseModel.project_id == project_id, BaseModel.name == name)
        return self.session.scalars(statement.returning(BaseModel.id)).one_or_none() is not None
