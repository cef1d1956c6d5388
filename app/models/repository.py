"""Stores the model registry in the database."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, Select, delete, func, insert, or_, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from app.db.base import select_page
from app.db.tables import Job, ModelPermission, Project, RegisteredModel
from app.domain.cursor import Cursor
from app.domain.jobs.state import FINAL
from app.domain.model import ModelState

FILES_LOCK = 0x6D6F64656C73
"""Is the key of the advisory lock under which a row names files, or files that no row names are removed."""


class ModelRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add_unless_named(self, **values: object) -> bool:
        """Insert the model, or do nothing if there is one with this name."""
        statement = (
            postgresql.insert(RegisteredModel).values(**values).on_conflict_do_nothing().returning(RegisteredModel.id)
        )
        return self.session.scalars(statement).one_or_none() is not None

    def find(self, name: str, *, lock: bool = False) -> RegisteredModel | None:
        """Find the model, whichever projects may use it."""
        query = _present_models().where(RegisteredModel.name == name)
        return self.session.scalars(query.with_for_update() if lock else query).one_or_none()

    def find_usable(self, project_id: str, name: str, *, lock: bool = False) -> RegisteredModel | None:
        """Find a model that the project may use. With a lock, it is not removed until the transaction ends."""
        query = _present_models().where(RegisteredModel.name == name, usable_by(project_id))
        return self.session.scalars(query.with_for_update(read=True, key_share=True) if lock else query).one_or_none()

    def list(self, project_id: str | None, limit: int, after: Cursor | None) -> Sequence[RegisteredModel]:
        """Return the models that a project may use, or all; one more than `limit`, newest first."""
        query = _present_models()
        if project_id is not None:
            query = query.where(usable_by(project_id))
        return self.session.scalars(select_page(query, RegisteredModel, limit, after)).all()

    def all(self, project_id: str | None = None) -> Sequence[RegisteredModel]:
        """Return the models that a project may use, or all, ordered by name."""
        query = _present_models() if project_id is None else _present_models().where(usable_by(project_id))
        return self.session.scalars(query.order_by(RegisteredModel.name)).all()

    def save(self, model: RegisteredModel) -> None:
        """Flush its changes at once, and read the values that the database sets."""
        self.session.flush()
        self.session.refresh(model)

    def removed(self, failed_for_seconds: float, but: Collection[str] = ()) -> Sequence[RegisteredModel]:
        """Return the rows whose files are no longer needed: removed models, and models that failed this long ago and
        were not tried again. Locks the rows until the transaction ends."""
        old = RegisteredModel.finished_at < func.clock_timestamp() - timedelta(seconds=failed_for_seconds)
        failed = (
            (RegisteredModel.state == ModelState.failed) & (func.jsonb_array_length(RegisteredModel.files) > 0) & old
        )
        query = select(RegisteredModel).where(
            or_(RegisteredModel.state == ModelState.removed, failed), RegisteredModel.id.not_in(but)
        )
        return self.session.scalars(query.with_for_update(skip_locked=True)).all()

    def named_files(self, but: Collection[str] = ()) -> set[str]:
        """Return the keys of the files that any model except these names."""
        found = self.session.scalars(select(RegisteredModel.files).where(RegisteredModel.id.not_in(but)))
        return {file["key"] for files in found for file in files}

    def lock_files(self) -> None:
        """Prevent that files are named or removed until the transaction ends."""
        self.session.execute(select(func.pg_advisory_xact_lock(FILES_LOCK)))

    def delete(self, model: RegisteredModel) -> None:
        self.session.execute(delete(RegisteredModel).where(RegisteredModel.id == model.id))

    def jobs_under_way(self, model: RegisteredModel, limit: int) -> Sequence[str]:
        """Return the ids of the unfinished jobs of all projects that train it."""
        query = select(Job.id).where(Job.base_model == model.name, Job.state.not_in(FINAL))
        return self.session.scalars(query.order_by(Job.created_at).limit(limit)).all()

    def allow(self, model: RegisteredModel, project_ids: Collection[str]) -> None:
        """Allow only these projects to use the model; all, if the list is empty."""
        self.session.execute(delete(ModelPermission).where(ModelPermission.model_id == model.id))
        model.for_all_projects = not project_ids
        if project_ids:
            rows = [{"model_id": model.id, "project_id": id} for id in project_ids]
            self.session.execute(insert(ModelPermission), rows)

    def allowed(self, models: Collection[RegisteredModel], project_id: str | None) -> dict[str, Sequence[str]]:
        """Return, by model id, the names of the projects that may use each restricted model; only the given project's
        name, if there is one."""
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


def _present_models() -> Select[RegisteredModel]:
    return select(RegisteredModel).where(RegisteredModel.state != ModelState.removed)


def usable_by(project_id: str) -> ColumnElement[bool]:
    permitted = select(ModelPermission.model_id).where(
        ModelPermission.model_id == RegisteredModel.id, ModelPermission.project_id == project_id
    )
    return or_(RegisteredModel.for_all_projects, permitted.exists())
