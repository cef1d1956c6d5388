"""Models as OpenAI lists them: base models, and what the project's jobs have made of them, by name."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.adapters.repository import AdapterRepository
from app.adapters.service import AdapterService
from app.domain.model import ModelState
from app.errors import ModelNotFound, NotDeletable
from app.jobs.names import Named, find_named, fine_tuned_name, fully_tuned
from app.models.service import ModelService


class NamedModel(NamedTuple):
    name: str
    created_at: datetime
    is_base: bool


class ModelDirectory:
    def __init__(self, session: Session, project_id: str) -> None:
        self.session, self.project_id = session, project_id
        self.bases = ModelService(session)

    def all(self) -> Sequence[NamedModel]:
        """Base models by name, then the project's own, newest first. Checkpoints are not listed."""
        adapters = AdapterRepository(self.session).all(self.project_id)
        own = [NamedModel(each.name, each.created_at, False) for each in adapters]
        whole = fully_tuned(self.session, self.project_id)
        own += [NamedModel(fine_tuned_name(job), job.finished_at or job.created_at, False) for job in whole]
        ready = [each for each in self.bases.all(self.project_id) if each.state == ModelState.ready]
        bases = [NamedModel(each.name, each.created_at, True) for each in ready]
        return bases + sorted(own, key=lambda model: model.created_at, reverse=True)

    def get(self, name: str) -> NamedModel:
        """AmbiguousName where two jobs have made one of the name."""
        if base := self.bases.find(self.project_id, name):
            return NamedModel(name, base.created_at, True)
        found = self._get_named(name)
        made = found.checkpoint or found.adapter
        created_at = made.created_at if made else found.job.finished_at or found.job.created_at
        return NamedModel(name, created_at, False)

    def delete(self, name: str) -> None:
        """Remove an adapter, or the files of a fully fine-tuned model; the job that made it stays."""
        if self.bases.find(self.project_id, name):
            raise NotDeletable(name, "it is a base model; DELETE /models/{name} removes it, with an admin's key")
        found = self._get_named(name)
        if found.checkpoint is not None:
            raise NotDeletable(name, f"a checkpoint is kept as long as its job {found.job.id} says, and goes with it")
        adapters = AdapterService(self.session)
        if found.adapter is not None:
            adapters.delete(self.project_id, found.adapter.id)
        else:
            adapters.delete_model(self.project_id, found.job.id)

    def _get_named(self, name: str) -> Named:
        found = find_named(self.session, self.project_id, name)
        if found is None:
            raise ModelNotFound(name)
        return found
