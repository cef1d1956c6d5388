"""Adapters in the database."""

from collections.abc import Sequence

from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session, defer

from app.db.tables import Adapter
from app.domain.page import Cursor


class AdapterRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, adapter: Adapter) -> None:
        self.session.add(adapter)
        self.session.flush()

    def find(self, project_id: str, id: str, *, lock: bool = False) -> Adapter | None:
        query = select(Adapter).where(Adapter.project_id == project_id, Adapter.id == id)
        return self.session.scalars(query.with_for_update() if lock else query).one_or_none()

    def named(self, project_id: str, name: str) -> Sequence[Adapter]:
        query = select(Adapter).where(Adapter.project_id == project_id, Adapter.name == name)
        return self.session.scalars(query.order_by(Adapter.id)).all()

    def list(self, project_id: str, base_model: str | None, limit: int, after: Cursor | None) -> Sequence[Adapter]:
        """One more than `limit`, newest first."""
        query = select(Adapter).where(Adapter.project_id == project_id)
        if base_model is not None:
            query = query.where(Adapter.base_model == base_model)
        if after:
            query = query.where(tuple_(Adapter.created_at, Adapter.id) < tuple_(after.created_at, after.id))
        return self.session.scalars(query.order_by(Adapter.created_at.desc(), Adapter.id.desc()).limit(limit + 1)).all()

    def all(self, project_id: str) -> Sequence[Adapter]:
        """Newest first, without their manifests."""
        query = select(Adapter).where(Adapter.project_id == project_id).options(defer(Adapter.manifest))
        return self.session.scalars(query.order_by(Adapter.created_at.desc(), Adapter.id.desc())).all()

    def delete(self, adapter: Adapter) -> None:
        self.session.execute(delete(Adapter).where(Adapter.project_id == adapter.project_id, Adapter.id == adapter.id))
