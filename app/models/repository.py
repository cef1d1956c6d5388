"""The model registry in the database."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, delete, insert, or_, select, tuple_
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from app.db.tables import BaseModel, Job, ModelPermission, Project
from app.domain.job import FINAL
from app.domain.page import Cursor


class ModelRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add_unless_named(self, **values: object) -> None:
        """Insert, or do nothing if there is a model of that name."""
        self.session.execute(postgresql.insert(BaseModel).values(**values).on_conflict_do_nothing())

    def find(self, name: str, *, lock: bool = False) -> BaseModel | None:
        """Of whatever projects."""
        query = select(BaseModel).where(BaseModel.name == name)
        return self.session.scalars(query.with_for_update() if lock else query).one_or_none()

    def find_usable(self, project_id: str, name: str, *, lock: bool = False) -> BaseModel | None:
        """With a lock, the model is not removed until the transaction ends."""
        query = select(BaseModel).where(BaseModel.name == name, usable_by(project_id))
        return self.session.scalars(query.with_for_update(read=True, key_share=True) if lock else query).one_or_none()

    def list(self, project_id: str | None, limit: int, after: Cursor | None) -> Sequence[BaseModel]:
        """Those that a project may use, or all; one more than `limit`, newest first."""
        query = select(BaseModel)
        if project_id is not None:
            query = query.where(usable_by(project_id))
        if after:
            query = query.where(tuple_(BaseModel.created_at, BaseModel.id) < tuple_(after.created_at, after.id))
        newest = query.order_by(BaseModel.created_at.desc(), BaseModel.id.desc())
        return self.session.scalars(newest.limit(limit + 1)).all()

    def all(self, project_id: str | None = None) -> Sequence[BaseModel]:
        """Those that a project may use, or all, by name."""
        query = select(BaseModel) if project_id is None else select(BaseModel).where(usable_by(project_id))
        return self.session.scalars(query.order_by(BaseModel.name)).all()

    def remove(self, model: BaseModel) -> None:
        self.session.execute(delete(BaseModel).where(BaseModel.id == model.id))

    def jobs_under_way(self, model: BaseModel, limit: int) -> Sequence[str]:
        """Ids of unfinished jobs that train it, of all projects."""
        query = select(Job.id).where(Job.base_model == model.name, Job.state.not_in(FINAL))
        return self.session.scalars(query.order_by(Job.created_at).limit(limit)).all()

    def allow(self, model: BaseModel, project_ids: Collection[str]) -> None:
        """Let these projects use the model and no others; all, if there are none."""
        self.session.execute(delete(ModelPermission).where(ModelPermission.model_id == model.id))
        model.for_all_projects = not project_ids
        if project_ids:
            rows = [{"model_id": model.id, "project_id": id} for id in project_ids]
            self.session.execute(insert(ModelPermission), rows)

    def allowed(self, models: Collection[BaseModel], project_id: str | None) -> dict[str, Sequence[str]]:
        """Names of the projects that may use each model which is not for all, by its id; only the one project's, if it
        is given."""
        query = (
            select(ModelPermission.model_id, Project.name)
            .join(Project, Project.id == ModelPermission.project_id)
            .where(ModelPermission.model_id.in_([model.id for model in models]))
        )
        if project_id is not None:
            query = query.where(Project.id == project_id)
        found = defaultdict(set)
        for model_id, name in self.session.execute(query):
            found[model_id].add(name)
        return {model_id: sorted(names) for model_id, names in found.items()}


def usable_by(project_id: str) -> ColumnElement[bool]:
    permitted = select(ModelPermission.model_id).where(
        ModelPermission.model_id == BaseModel.id, ModelPermission.project_id == project_id
    )
    return or_(BaseModel.for_all_projects, permitted.exists())
