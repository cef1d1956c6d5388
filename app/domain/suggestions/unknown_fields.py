"""Suggests fields of a body for unknown ones."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.domain.suggestions.closest import advise, find_closest

NAMES_ELSEWHERE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "base_model_name_or_path": "base_model",
        "cutoff_len": "max_seq_len",
        "dataset": "dataset_id",
        "eval_dataset": "validation_dataset_id",
        "eval_steps": "eval_every",
        "learning_rate_multiplier": "learning_rate",
        "lora_alpha": "alpha",
        "lora_dropout": "dropout",
        "lora_r": "rank",
        "lora_rank": "rank",
        "lora_target_modules": "target_modules",
        "lr": "learning_rate",
        "lr_scheduler_type": "schedule",
        "max_length": "max_seq_len",
        "max_seq_length": "max_seq_len",
        "model": "base_model",
        "model_name": "base_model",
        "model_name_or_path": "base_model",
        "n_epochs": "epochs",
        "num_epochs": "epochs",
        "num_train_epochs": "epochs",
        "optim": "optimizer",
        "per_device_train_batch_size": "batch_size",
        "r": "rank",
        "random_state": "seed",
        "save_steps": "save_every",
        "save_total_limit": "keep_checkpoints",
        "train_dataset": "dataset_id",
        "train_file": "dataset_id",
        "training_file": "dataset_id",
        "val_dataset": "validation_dataset_id",
        "validation_file": "validation_dataset_id",
        "warmup_steps": "warmup_ratio",
    }
)
"""Maps names in PEFT, transformers, TRL and OpenAI to the names here."""
MOST_NAMED: Final = 3
CLOSE_ELSEWHERE: Final = 0.85
"""Sets the higher similarity that a field of another object needs."""


Models = Mapping[str, type[BaseModel]]
NO_MODELS: Final[Models] = MappingProxyType({})


def say_unknown(root: type[BaseModel], location: tuple[int | str, ...], within: Models = NO_MODELS) -> str:
    """Return the message about an unknown field.

    `location` is pydantic's, which also names members of unions. `within` has the models of fields that are checked
    later, by name."""
    return f"Unknown field {str(location[-1])!r:.80}; {advise(find_meant(root, location, within))}"


def find_meant(root: type[BaseModel], location: tuple[int | str, ...], within: Models) -> list[str]:
    """Return the suggested field of the same object, by its name, or fields of other objects, by dotted names from the
    body's root."""
    name, siblings = str(location[-1]), _fields_at(root, location[:-1])
    others = [*fields_of(root)]
    others += [f"{part}.{field}" for part, model in within.items() for field in fields_of(model)]
    ours = NAMES_ELSEWHERE.get(name.lower().replace("-", "_"))
    if ours in siblings:
        return [ours]
    if exact := [field for field in others if _last(field) in (name, ours)]:
        return exact[:MOST_NAMED]
    if close := find_closest(name, siblings):
        return [close]
    elsewhere = find_closest(name, map(_last, others), CLOSE_ELSEWHERE)
    return [field for field in others if _last(field) == elsewhere][:MOST_NAMED]


@cache
def fields_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Return dotted names of every field below a model, each once, the shallowest first."""
    found: dict[str, None] = {}
    level: list[tuple[str, type[BaseModel]]] = [("", model)]
    while level:
        found |= {prefix + name: None for prefix, each in level for name in _fields(each)}
        level = [
            (f"{prefix}{name}.", part)
            for prefix, each in level
            for name, field in _fields(each).items()
            for part in _models_in(field.annotation)
        ]
    return tuple(found)


def _last(dotted: str) -> str:
    return dotted.rpartition(".")[2]


def _fields_at(root: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """Return the field names of the object there; for a union, those of all its members."""
    models = [root]
    for part in location:
        fields = [_fields(each)[str(part)] for each in models if part in _fields(each)]
        models = [inner for field in fields for inner in _models_in(field.annotation)] if fields else models
    return {name for each in models for name in _fields(each)}


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields by their names in a body."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
