"""The catalogue of base models: what a job may be trained on."""

import re
from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.db.tables import BaseModel
from app.domain.identity import new_id
from app.domain.page import Cursor
from app.errors import BadRequest, ModelExists, ModelNotFound
from app.models.folder import ModelFacts
from app.models.modules import unmatched_targets
from app.models.repository import ModelRepository

__all__ = ["ModelService", "unmatched_targets"]

PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
NAME = re.compile(rf"(?=.{{1,200}}$){PART}(/{PART})*")


class ModelService:
    def __init__(self, session: Session) -> None:
        self.models = ModelRepository(session)

    def add(self, project_id: str, name: str, source: str, revision: str, facts: ModelFacts) -> BaseModel:
        """Catalogue a model. The same one again, under the same name, only updates where it lies."""
        if not NAME.fullmatch(name):
            raise BadRequest(f"{name!r:.80} cannot name a model; use letters, digits, '.', '_', '-' and single '/'.")
        self.models.add_unless_named(
            id=new_id("model"), project_id=project_id, name=name, source=source, revision=revision, **facts._asdict()
        )
        model = self.get(project_id, name)
        if model.revision != revision:
            raise ModelExists(name)
        model.source = source
        return model

    def find(self, project_id: str, name: str) -> BaseModel | None:
        return self.models.find(project_id, name) if NAME.fullmatch(name) else None

    def get(self, project_id: str, name: str) -> BaseModel:
        model = self.find(project_id, name)
        if model is None:
            raise ModelNotFound(name)
        return model

    def list(self, project_id: str, limit: int, after: Cursor | None) -> Sequence[BaseModel]:
        return self.models.list(project_id, limit, after)

    def all(self, project_id: str) -> Sequence[BaseModel]:
        return self.models.all(project_id)

    def remove(self, project_id: str, name: str) -> None:
        if not self.models.remove(project_id, name):
            raise ModelNotFound(name)
