"""Checks `init_from`: whether an adapter can initialize a new one. Given fields must match it; omitted ones are
copied from it."""

from typing import NamedTuple

from sqlalchemy.orm import Session

from app.adapters.service import AdapterService
from app.db.tables import Adapter, Checkpoint, Job, RegisteredModel
from app.domain.ids import is_id
from app.domain.jobs.spec import JobSpec
from app.domain.jobs.training_config import MAX_ALPHA, MAX_RANK, AdapterSpec
from app.errors import AdapterNotFound, AmbiguousName, CheckpointWithoutAdapter, FieldError
from app.jobs.checkpoints.repository import CheckpointRepository, adapter_of
from app.jobs.model_names import resolve_model_name
from app.jobs.repository import JobRepository

SHAPE = ("rank", "alpha", "target_modules", "use_rslora", "use_dora")
"""Lists the fields on which the meaning of an adapter's weights depends."""


class Start(NamedTuple):
    """Holds the weights of an adapter or checkpoint, and how they were made."""

    id: str
    shown: str
    """Describes it in an error's message."""
    base_model: str
    revision: str | None
    adapter: AdapterSpec
    """Holds the adapter's fields as its files state them."""


class WarmStart:
    def __init__(self, session: Session, project_id: str) -> None:
        self.session, self.project_id = session, project_id
        self.adapters = AdapterService(session)
        self.checkpoints = CheckpointRepository(session)

    def check(self, asked: str, model: RegisteredModel | None, errors: list[FieldError]) -> Start | None:
        """Return the start, if it exists and was trained on exactly these weights. A checkpoint is protected from
        removal until the transaction ends."""
        try:
            start = self._find(asked)
        except (AdapterNotFound, AmbiguousName, CheckpointWithoutAdapter) as error:
            errors.append(FieldError("/init_from", error.code, str(error)))
            return None
        if start is None:
            errors.append(_report_not_found(asked))
            return None
        if model is not None and (start.base_model, start.revision) != (model.name, model.revision):
            message = (
                f"{start.shown} was trained on {start.base_model} at revision {start.revision} and does not work with "
                f"{model.name} at revision {model.revision}; use the same base model and revision."
            )
            errors.append(FieldError("/init_from", "base_model_mismatch", message))
            return None
        return start

    def _find(self, asked: str) -> Start | None:
        if is_id(asked, "adp"):
            return start_from_adapter(self.adapters.get(self.project_id, asked))
        named = resolve_model_name(self.session, self.project_id, asked)
        if named is not None and named.adapter is not None:
            return start_from_adapter(named.adapter)
        id = named.checkpoint.id if named and named.checkpoint else asked
        checkpoint = self.checkpoints.find(self.project_id, id, lock=True)
        return self._of_checkpoint(checkpoint) if checkpoint else None

    def _of_checkpoint(self, checkpoint: Checkpoint) -> Start:
        job: Job = JobRepository(self.session).get(self.project_id, checkpoint.job_id)
        adapter_of(checkpoint)
        saved = AdapterSpec.model_validate(job.spec["adapter"]).as_saved()
        revision = checkpoint.base_model_revision
        return Start(checkpoint.id, f"Checkpoint {checkpoint.id}", job.base_model, revision, saved)


def start_from_adapter(adapter: Adapter) -> Start:
    saved = AdapterSpec.model_validate(adapter.manifest["spec"]["adapter"]).as_saved()
    revision = adapter.manifest["base_model"]["revision"]
    return Start(adapter.id, f"Adapter {adapter.id}", adapter.base_model, revision, saved)


def copy_adapter_shape(spec: JobSpec, start: Start, errors: list[FieldError]) -> JobSpec:
    """Return the spec with the omitted fields of its `adapter` copied from `start`."""
    theirs = start.adapter.model_dump()
    given = spec.adapter.model_dump(exclude_unset=True) if spec.adapter else {}
    if given.get("alpha") == "auto":
        del given["alpha"]
    for field in SHAPE:
        if field in given and _comparable(given[field]) != _comparable(theirs[field]):
            message = f"{start.shown} has {theirs[field]!r:.200}, not {given[field]!r:.80}; remove this field."
            errors.append(FieldError(f"/adapter/{field}", "init_from_mismatch", message))
    if theirs["rank"] > MAX_RANK or theirs["alpha"] > MAX_ALPHA:
        limits = f"a job supports at most rank {MAX_RANK:,} and alpha {MAX_ALPHA:,}"
        message = f"{start.shown} has rank {theirs['rank']} and alpha {theirs['alpha']:g}; {limits}."
        errors.append(FieldError("/init_from", "adapter_too_large", message))
    return spec if errors else spec.model_copy(update={"adapter": AdapterSpec.model_validate(theirs | given)})


def _comparable(value: object) -> object:
    """Return the value in a form that ignores the order of module names."""
    return set(value) if isinstance(value, list) else value


def _report_not_found(asked: str) -> FieldError:
    message = (
        f"Adapter or checkpoint {asked!r:.300} not found; GET /adapters and GET /jobs/{{id}}/checkpoints list them. "
        "A fully fine-tuned model cannot be used here, and checkpoints are deleted some days after their job has ended."
    )
    return FieldError("/init_from", "init_from_not_found", message)
