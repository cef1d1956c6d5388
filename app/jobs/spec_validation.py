"""Checks a JobSpec alone and against the registry and the datasets, and reports every invalid field at once."""

from typing import Any

from pydantic import BaseModel as Body
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.datasets.service import DatasetService, mismatch_of, why_unusable
from app.db.tables import Checkpoint, RegisteredModel
from app.domain.integration import NEEDS
from app.domain.jobs.spec import BadRowPolicy, JobSpec
from app.domain.suggestions.unknown_fields import NO_MODELS, Models, say_unknown
from app.errors import FieldError, InvalidSpec, ModelNotFound, ModelNotReady
from app.jobs.warm_start import WarmStart, copy_adapter_shape
from app.labels import show_allowed_labels
from app.models.service import ModelService, unmatched_targets
from app.projects.lookup import allowed_labels_of
from app.workers.service import WorkerService

HEAD = "lm_head"
"""Names the output layer, which gets an adapter when it is named; a tied one is not stored in a file."""


class SpecCheck:
    def __init__(self, session: Session, project_id: str) -> None:
        self.session = session
        self.models = ModelService(session)
        self.datasets = DatasetService(session)
        self.workers = WorkerService(session)
        self.starts = WarmStart(session, project_id)
        self.project_id = project_id
        self.init_from_id: str | None = None
        """Holds the id to which `init_from` of the checked spec resolves."""

    def check(self, raw: object, checkpoint: Checkpoint | None = None) -> JobSpec:
        """Return the filled spec. Checks against stored objects read the raw body, so that one invalid field does not
        hide another. A job that continues from a checkpoint reads nothing of what `init_from` names."""
        if not isinstance(raw, dict):
            raise InvalidSpec([FieldError("", "wrong_type", "The body is not a JSON object; send a JobSpec.")])
        errors: list[FieldError] = []
        spec = None
        try:
            spec = JobSpec.model_validate(raw)
        except ValidationError as error:
            errors += field_errors(error, JobSpec)
        model = self._check_model(raw, errors)
        self._check_datasets(raw, errors)
        self._check_integrations(raw, errors)
        self._check_labels(raw, errors)
        init_from = raw.get("init_from")
        start = None
        if isinstance(init_from, str) and checkpoint is None:
            start = self.starts.check(init_from, model, errors)
        if checkpoint is not None and model is not None and model.revision != checkpoint.base_model_revision:
            errors.append(_other_revision(model, checkpoint))
        if spec is not None and start is not None:
            spec = copy_adapter_shape(spec, start, errors)
        if errors or spec is None or model is None:
            raise InvalidSpec(errors)
        self.init_from_id = start.id if start else None
        return spec.filled()

    def _check_model(self, raw: dict[str, Any], errors: list[FieldError]) -> RegisteredModel | None:
        name = raw.get("base_model")
        if not isinstance(name, str):
            return None
        try:
            model = self.models.get_ready(self.project_id, name, lock=True)
        except ModelNotFound:
            errors.append(_unknown_model(name))
            return None
        except ModelNotReady as error:
            errors.append(FieldError("/base_model", error.code, str(error)))
            return None
        wanted = _get_field(raw, "training", "max_seq_len")
        if type(wanted) is int and wanted > model.max_seq_len:
            message = f'{model.name} supports at most {model.max_seq_len:,} tokens; use at most that many, or "auto".'
            errors.append(FieldError("/training/max_seq_len", "exceeds_model_limit", message))
        targets = _get_field(raw, "adapter", "target_modules")
        if isinstance(targets, list) and all(isinstance(target, str) for target in targets):
            for target in unmatched_targets(model.linear_modules, [name for name in targets if name != HEAD]):
                message = f"{model.name} has no linear layer named {target!r:.80}; use any of {_layer_names(model)}."
                errors.append(FieldError("/adapter/target_modules", "target_modules_not_found", message))
        return model

    def _check_datasets(self, raw: dict[str, Any], errors: list[FieldError]) -> None:
        for field in ("dataset_id", "validation_dataset_id"):
            id = raw.get(field)
            if not isinstance(id, str):
                continue
            dataset = self.datasets.find(self.project_id, id)
            if dataset is None:
                message = f"Dataset {id!r:.80} not found; upload one with POST /datasets."
                errors.append(FieldError(f"/{field}", "dataset_not_found", message))
            elif unusable := why_unusable(dataset, _tolerated(raw)):
                errors.append(FieldError(f"/{field}", *unusable))
            elif mismatch := mismatch_of(dataset, raw.get("objective", "sft")):
                errors.append(FieldError(f"/{field}", *mismatch))

    def _check_integrations(self, raw: dict[str, Any], errors: list[FieldError]) -> None:
        given = raw.get("integrations")
        if not isinstance(given, list) or (served := self.workers.integrations()) is None:
            return
        types = [each.get("type") if isinstance(each, dict) else None for each in given]
        for type, needs in NEEDS.items():
            if type in types and type not in served:
                message = f"No online worker supports {type}. {needs.remedy}"
                errors.append(FieldError(f"/integrations/{types.index(type)}/type", "integration_unavailable", message))

    def _check_labels(self, raw: dict[str, Any], errors: list[FieldError]) -> None:
        wanted = _get_field(raw, "resources", "labels")
        if not isinstance(wanted, dict) or not wanted:
            return
        allowed = allowed_labels_of(self.session, self.project_id)
        for key, value in wanted.items():
            if key in allowed and value not in allowed[key]:
                choices = show_allowed_labels({key: allowed[key]})
                message = f"This project's jobs run only on workers labelled {choices}; use that or remove this label."
                errors.append(FieldError(f"/resources/labels/{key}", "label_not_allowed", message))


def field_errors(error: ValidationError, root: type[Body], within: Models = NO_MODELS) -> list[FieldError]:
    """Return the errors by their location in the body, which should be a `root`. For `within` see `say_unknown`."""
    return [
        _field_error(found["loc"], "unknown_field", say_unknown(root, found["loc"], within))
        if found["type"] == "extra_forbidden"
        else _field_error(found["loc"], found["type"], found["msg"])
        for found in error.errors()
    ]


def _field_error(location: tuple[int | str, ...], code: str, message: str) -> FieldError:
    # The tags that pydantic inserts to distinguish the members of a union are not part of the pointer.
    parts = [str(part) for part in location if str(part).isidentifier() or isinstance(part, int)]
    return FieldError("".join("/" + part for part in parts if part not in ("float", "int", "bool")), code, message)


def _other_revision(model: RegisteredModel, checkpoint: Checkpoint) -> FieldError:
    message = (
        f"The checkpoint was trained on {model.name} at revision {checkpoint.base_model_revision}, but the model is "
        f'now at revision {model.revision}; retry the job from "start".'
    )
    return FieldError("/base_model", "base_model_mismatch", message)


def _unknown_model(name: str) -> FieldError:
    message = f"Model {name!r:.80} not found, or not allowed for this project; GET /models lists the available models."
    return FieldError("/base_model", "model_not_found", message)


def _get_field(raw: dict[str, Any], part: str, field: str) -> object:
    section = raw.get(part)
    return section.get(field) if isinstance(section, dict) else None


def _tolerated(raw: dict[str, Any]) -> float:
    """Return the share of bad rows that may be left out; zero if the spec is not clear about it."""
    try:
        return BadRowPolicy.model_validate(raw.get("on_bad_rows", {})).tolerated
    except ValidationError:
        return 0.0


def _layer_names(model: RegisteredModel) -> str:
    return ", ".join(sorted({name.rsplit(".", 1)[-1] for name in model.linear_modules})[:20])
