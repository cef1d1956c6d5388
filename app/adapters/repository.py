"""Stores adapters in the database."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db.base import select_page
from app.db.tables import Adapter
from app.domain.cursor import Cursor


class AdapterRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, adapter: Adapter) -> None:
        self.session.add(adapter)
        self.session.flush()

    def find(self, project_id: str, id: str, *, lock: bool = False) -> Adapter | None:
        query = select(Adapter).where(Adapter.project_id == project_id, Adapter.id == id)
        return self.session.scalars(query.with_for_update() if lock else query).one_or_none()

    def find_of_job(self, project_id: str, job_id: str) -> Adapter | None:
        query = select(Adapter).where(Adapter.project_id == project_id, Adapter.job_id == job_id)
        return self.session.scalars(query).one_or_none()

    def named(self, project_id: str, name: str) -> Sequence[Adapter]:
        query = select(Adapter).where(Adapter.project_id == project_id, Adapter.name == name)
        return self.session.scalars(query.order_by(Adapter.id)).all()

    def list(self, project_id: str, base_model: str | None, limit: int, after: Cursor | None) -> Sequence[Adapter]:
        """Return one more than `limit`, newest first."""
        query = select(Adapter).where(Adapter.project_id == project_id)
        if base_model is not None:
            query = query.where(Adapter.base_model == base_model)
        return self.session.scalars(select_page(query, Adapter, limit, after)).all()

    def newest_names(self, project_id: str, until: datetime | None, limit: int) -> Sequence[tuple[str, datetime]]:
        """Return the names, each with its time, newest first; none later than `until`."""
        query = select(Adapter.name, Adapter.created_at).where(Adapter.project_id == project_id)
        if until:
            query = query.where(Adapter.created_at <= until)
        ordered = query.order_by(Adapter.created_at.desc(), Adapter.id.desc()).limit(limit)
        return [(name, created_at) for name, created_at in self.session.execute(ordered)]

    def delete(self, adapter: Adapter) -> None:
        self.session.execute(delete(Adapter).where(Adapter.project_id == adapter.project_id, Adapter.id == adapter.id))
