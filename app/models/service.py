"""Manages the registry of base models: which models jobs may train, and in which projects."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from app.db.tables import RegisteredModel
from app.domain.cursor import Cursor
from app.domain.ids import new_id
from app.domain.model import ModelState
from app.errors import BadRequest, InvalidModelFolder, ModelAlreadyExists, ModelInUse, ModelNotFound, ModelNotReady
from app.models.errors import InvalidHubName
from app.models.modules import unmatched_targets
from app.models.repository import ModelRepository
from app.models.sources import COMMIT, HUB_ID, not_allowed
from app.projects.lookup import find_projects

__all__ = ["ModelService", "Wanted", "unmatched_targets"]

PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
NAME = re.compile(rf"(?=.{{1,200}}$){PART}(/{PART})*")
JOBS_NAMED = 5
UNFETCHED: dict[str, Any] = {
    "state": ModelState.pending,
    "revision": None,
    "attempt": 0,
    "num_bytes_done": 0,
    "num_bytes": None,
    "failure_code": None,
    "failure_message": None,
    "finished_at": None,
}


class Wanted(NamedTuple):
    """Describes the requested model."""

    name: str
    source: str
    """Is the absolute path of a folder, or a hub id."""
    revision: str | None = None
    """Names a branch, tag or commit on the hub."""
    projects: Collection[str] = ()
    """Names the projects that may use it; all, if empty."""
    any_path: bool = False
    """Allows the folder to lie anywhere on the machine."""
    hub_name: str | None = None
    """Is the hub id stated for a folder's model."""
    hub_revision: str | None = None
    """Is the commit on the hub stated for it."""

    def check_roots(self, roots: Sequence[Path]) -> None:
        """Raise BadRequest if the folder's path lies below none of the roots."""
        folder = Path(self.source)
        inside = any(folder.is_relative_to(root) for root in roots) and ".." not in folder.parts
        if folder.is_absolute() and not inside:
            raise BadRequest(not_allowed(folder, roots))


def wanted_model(
    name: str,
    path: str | None,
    hub: str | None,
    revision: str | None,
    projects: Collection[str],
    *,
    any_path: bool = False,
    hub_name: str | None = None,
) -> Wanted:
    """Build the request from exactly one of `path` and `hub`. With a `hub_name`, `revision` is the commit stated for
    the folder."""
    if hub_name is not None:
        _check_hub_name(hub_name, revision)
        return Wanted(name, str(path), None, projects, any_path, hub_name, revision)
    if hub is not None and not HUB_ID.fullmatch(hub):
        raise InvalidModelFolder(f"{hub!r:.80} is not a hub id; use ORG/NAME.")
    source = hub or str(path)
    return Wanted(name, source, (revision or "main") if hub else None, projects, any_path)


def _check_hub_name(name: str, commit: str | None) -> None:
    if not HUB_ID.fullmatch(name):
        raise InvalidHubName(f"{name!r:.120} is not a hub id; use ORG/NAME.")
    if commit is not None and not COMMIT.fullmatch(commit):
        message = f"{commit!r:.80} is not a commit of {name}; pass its 40 hexadecimal digits, or omit the revision."
        raise InvalidHubName(message)


class ModelService:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.models = ModelRepository(session)

    def add(self, wanted: Wanted) -> RegisteredModel:
        """Request that a model be fetched. For a model that exists with the same source, only its projects and hub name
        change; a failed one is fetched again from the source given now. Raise ModelAlreadyExists if the name belongs to
        another model."""
        name = wanted.name
        if not NAME.fullmatch(name):
            raise BadRequest(
                f"{name!r:.80} is not a valid model name; use letters, digits, '.', '_', '-' and single '/'."
            )
        source = {"source": wanted.source, "wanted_revision": wanted.revision, "any_path": wanted.any_path}
        source |= {"hub_name": wanted.hub_name, "hub_revision": wanted.hub_revision}
        self.models.add_unless_named(id=new_id("model"), name=name, state=ModelState.pending, **source)
        model = self._find_any(name, lock=True)
        if model is None:
            raise ModelNotFound(name)
        if model.state == ModelState.failed:
            for field, value in (UNFETCHED | source).items():
                setattr(model, field, value)
        elif model.source != wanted.source or wanted.revision not in (model.wanted_revision, model.revision):
            raise ModelAlreadyExists(name)
        self.change(model, wanted)
        self.models.save(model)
        return model

    def change(self, model: RegisteredModel, wanted: Wanted) -> None:
        """Change the projects that may use it and, if given, its hub name."""
        if wanted.hub_name is not None:
            model.hub_name, model.hub_revision = wanted.hub_name, wanted.hub_revision
        self.models.allow(model, self._project_ids(wanted.projects))

    def _project_ids(self, names: Collection[str]) -> list[str]:
        known = find_projects(self.session, names)
        if missing := sorted(set(names) - known.keys()):
            raise BadRequest(
                f"No project has the name {missing[0]!r:.80}; name existing projects, or none to allow all."
            )
        return list(known.values())

    def find(self, project_id: str, name: str, *, lock: bool = False) -> RegisteredModel | None:
        """Return the model, if it is ready and the project may use it. With a lock, it is not removed until the
        transaction ends."""
        found = self._find_usable(project_id, name, lock=lock)
        return found if found is not None and found.state == ModelState.ready else None

    def get_ready(self, project_id: str, name: str, *, lock: bool = False) -> RegisteredModel:
        """Return the model, or raise ModelNotFound or ModelNotReady."""
        found = self._find_usable(project_id, name, lock=lock)
        if found is None:
            raise ModelNotFound(name)
        if found.state != ModelState.ready:
            raise ModelNotReady(name, found.state)
        return found

    def get(self, project_id: str | None, name: str) -> RegisteredModel:
        """Return a model in any state that the project may use; any model, if `project_id` is None."""
        found = self._find_usable(project_id, name) if project_id is not None else self._find_any(name)
        if found is None:
            raise ModelNotFound(name)
        return found

    def _find_usable(self, project_id: str, name: str, *, lock: bool = False) -> RegisteredModel | None:
        return self.models.find_usable(project_id, name, lock=lock) if NAME.fullmatch(name) else None

    def _find_any(self, name: str, *, lock: bool = False) -> RegisteredModel | None:
        return self.models.find(name, lock=lock) if NAME.fullmatch(name) else None

    def list(self, project_id: str | None, limit: int, after: Cursor | None) -> Sequence[RegisteredModel]:
        """Return the models that the project may use, or all."""
        return self.models.list(project_id, limit, after)

    def all(self, project_id: str | None = None) -> Sequence[RegisteredModel]:
        return self.models.all(project_id)

    def allowed(self, models: Collection[RegisteredModel], project_id: str | None = None) -> dict[str, Sequence[str]]:
        """Return, by model id, the names of the projects that may use each restricted model: those that the one project
        may see, or all."""
        return self.models.allowed(models, project_id)

    def remove(self, name: str) -> None:
        """Remove the model; the collector deletes the files that no other model names. Raise ModelInUse while an
        unfinished job trains it."""
        model = self._find_any(name, lock=True)
        if model is None:
            raise ModelNotFound(name)
        if jobs := self.models.jobs_under_way(model, JOBS_NAMED):
            raise ModelInUse(name, jobs)
        model.state, model.leased_until = ModelState.removed, None
        self.models.allow(model, ())
