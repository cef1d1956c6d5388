"""`init_from`: may this adapter be the start of a new one? What is given agrees with it, the rest is taken from it."""

from sqlalchemy.orm import Session

from app.adapters.service import AdapterService
from app.db.tables import Adapter, BaseModel
from app.domain import spec as domain
from app.errors import AdapterNotFound, FieldError

SHAPE = ("rank", "alpha", "target_modules", "use_rslora", "use_dora")
"""What an adapter's weights mean depends on these."""


class WarmStart:
    def __init__(self, session: Session, project_id: str) -> None:
        self.adapters = AdapterService(session)
        self.project_id = project_id

    def check(self, id: str, model: BaseModel | None, errors: list[FieldError]) -> Adapter | None:
        """The adapter, if it exists and was trained on these very weights."""
        try:
            adapter = self.adapters.get(self.project_id, id)
        except AdapterNotFound as error:
            errors.append(FieldError("/init_from", error.code, str(error)))
            return None
        revision = adapter.manifest["base_model"]["revision"]
        if model is not None and (adapter.base_model, revision) != (model.name, model.revision):
            message = (
                f"Adapter {id} was trained on {adapter.base_model} at revision {revision} and fits no other weights; "
                f"{model.name} is at revision {model.revision}."
            )
            errors.append(FieldError("/init_from", "base_model_differs", message))
            return None
        return adapter


def shaped_as(spec: domain.JobSpec, start: Adapter, errors: list[FieldError]) -> domain.JobSpec:
    """The spec with what its `adapter` leaves out as `start` has it."""
    theirs = domain.Adapter.model_validate(start.manifest["spec"]["adapter"]).as_saved().model_dump()
    given = spec.adapter.model_dump(exclude_unset=True) if spec.adapter else {}
    for field in SHAPE:
        if field in given and _comparable(given[field]) != _comparable(theirs[field]):
            message = f"Adapter {start.id} has {theirs[field]!r:.200} here, not {given[field]!r:.80}; leave it out."
            errors.append(FieldError(f"/adapter/{field}", "differs_from_init_from", message))
    if theirs["rank"] > domain.MAX_RANK or theirs["alpha"] > domain.MAX_ALPHA:
        message = f"Adapter {start.id} has rank {theirs['rank']} and alpha {theirs['alpha']:g}, more than a job can."
        errors.append(FieldError("/init_from", "adapter_too_large", message))
    return spec if errors else spec.model_copy(update={"adapter": domain.Adapter.model_validate(theirs | given)})


def _comparable(value: object) -> object:
    """Names of modules in any order."""
    return set(value) if isinstance(value, list) else value
