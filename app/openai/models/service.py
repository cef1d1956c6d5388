"""Lists models by name as OpenAI does: base models, and the results of the project's jobs."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.adapters.repository import AdapterRepository
from app.adapters.service import AdapterService
from app.domain.model import ModelState
from app.errors import ModelNotFound, NotDeletable
from app.jobs.model_names import ResolvedModelName, newest_whole_models, resolve_model_name
from app.models.service import ModelService


class NamedModel(NamedTuple):
    name: str
    created_at: datetime
    is_base: bool


def _age(model: NamedModel) -> tuple[datetime, str]:
    return model.created_at, model.name


class ModelDirectory:
    def __init__(self, session: Session, project_id: str) -> None:
        self.session, self.project_id = session, project_id
        self.bases = ModelService(session)

    def list(self, limit: int, after: str | None = None) -> Sequence[NamedModel]:
        """Return base models by name, then the project's newest models, one more than `limit` of them. Checkpoints are
        not listed. With `after`, the name of one of the project's models, return only older ones and no base models."""
        last = self.get(after) if after else None
        asked = self.project_id, last.created_at if last else None, limit + 2  # `after` itself, and one more
        found = AdapterRepository(self.session).newest_names(*asked)
        found = [*found, *newest_whole_models(self.session, *asked)]
        own = sorted((NamedModel(name, created_at, False) for name, created_at in found), key=_age, reverse=True)
        if last:
            return [model for model in own if _age(model) < _age(last)][: limit + 1]
        ready = [each for each in self.bases.all(self.project_id) if each.state == ModelState.ready]
        return [NamedModel(each.name, each.created_at, True) for each in ready] + own[: limit + 1]

    def get(self, name: str) -> NamedModel:
        """Get the model; raise AmbiguousName if two jobs have made one with the name."""
        if base := self.bases.find(self.project_id, name):
            return NamedModel(name, base.created_at, True)
        found = self._get_named(name)
        made = found.checkpoint or found.adapter
        created_at = made.created_at if made else found.job.finished_at or found.job.created_at
        return NamedModel(name, created_at, False)

    def delete(self, name: str) -> None:
        """Delete an adapter, or the files of a fully fine-tuned model; the job that made it stays."""
        if self.bases.find(self.project_id, name):
            raise NotDeletable(
                name, "it is a base model; use DELETE /models/{name} with a key that has the scope 'admin'"
            )
        found = self._get_named(name)
        if found.checkpoint is not None:
            raise NotDeletable(
                name, f"it is a checkpoint, which is deleted with its job {found.job.id} or as that job's spec says"
            )
        adapters = AdapterService(self.session)
        if found.adapter is not None:
            adapters.delete(self.project_id, found.adapter.id)
        else:
            adapters.delete_model(self.project_id, found.job.id)

    def _get_named(self, name: str) -> ResolvedModelName:
        found = resolve_model_name(self.session, self.project_id, name)
        if found is None:
            raise ModelNotFound(name)
        return found
