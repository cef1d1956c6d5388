"""The registry of base models: what a job may be trained on, and by which projects."""

import re
from collections.abc import Collection, Sequence

from sqlalchemy.orm import Session

from app.db.projects import find_projects
from app.db.tables import BaseModel
from app.domain.identity import new_id
from app.domain.page import Cursor
from app.errors import BadRequest, ModelExists, ModelInUse, ModelNotFound
from app.models.folder import ModelFacts
from app.models.modules import unmatched_targets
from app.models.repository import ModelRepository

__all__ = ["ModelService", "unmatched_targets"]

PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
NAME = re.compile(rf"(?=.{{1,200}}$){PART}(/{PART})*")
JOBS_NAMED = 5


class ModelService:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.models = ModelRepository(session)

    def add(
        self, name: str, source: str, revision: str, facts: ModelFacts, projects: Collection[str] = ()
    ) -> BaseModel:
        """Register a model for the projects of these names, or for all. The same one again, under the same name, only
        updates where it lies and who may use it."""
        if not NAME.fullmatch(name):
            raise BadRequest(f"{name!r:.80} cannot name a model; use letters, digits, '.', '_', '-' and single '/'.")
        project_ids = self._project_ids(projects)
        self.models.add_unless_named(id=new_id("model"), name=name, source=source, revision=revision, **facts._asdict())
        model = self.models.find(name, lock=True)
        if model is None:
            raise ModelNotFound(name)
        if model.revision != revision:
            raise ModelExists(name)
        model.source = source
        self.models.allow(model, project_ids)
        return model

    def _project_ids(self, names: Collection[str]) -> list[str]:
        known = find_projects(self.session, names)
        if missing := sorted(set(names) - known.keys()):
            raise BadRequest(f"There is no project {missing[0]!r:.80}; name projects that exist, or none for all.")
        return list(known.values())

    def find(self, project_id: str, name: str, *, lock: bool = False) -> BaseModel | None:
        """The model, if the project may use it. With a lock, it is not removed until the transaction ends."""
        return self.models.find_usable(project_id, name, lock=lock) if NAME.fullmatch(name) else None

    def get(self, project_id: str | None, name: str) -> BaseModel:
        """One that the project may use, or any."""
        found = self.find(project_id, name) if project_id is not None else self._find_any(name)
        if found is None:
            raise ModelNotFound(name)
        return found

    def _find_any(self, name: str, *, lock: bool = False) -> BaseModel | None:
        return self.models.find(name, lock=lock) if NAME.fullmatch(name) else None

    def list(self, project_id: str | None, limit: int, after: Cursor | None) -> Sequence[BaseModel]:
        """Those that the project may use, or all."""
        return self.models.list(project_id, limit, after)

    def all(self, project_id: str | None = None) -> Sequence[BaseModel]:
        return self.models.all(project_id)

    def allowed(self, models: Collection[BaseModel], project_id: str | None = None) -> dict[str, Sequence[str]]:
        """Names of the projects that may use each model which is not for all, by its id: those that the one project
        may know of, or all."""
        return self.models.allowed(models, project_id)

    def remove(self, name: str) -> None:
        """ModelInUse while an unfinished job trains it."""
        model = self._find_any(name, lock=True)
        if model is None:
            raise ModelNotFound(name)
        if jobs := self.models.jobs_under_way(model, JOBS_NAMED):
            raise ModelInUse(name, jobs)
        self.models.remove(model)
