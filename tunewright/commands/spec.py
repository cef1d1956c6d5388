"""A JobSpec from a file and from options."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from tunewright import Client
from tunewright.commands.datasets import send

DATASET_ID = re.compile(r"file-[0-9a-f]{24}")


def build_spec(client: Client, file: Path | None, dataset: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Uploads the dataset if it is a file. What is None was not given."""
    spec = {"training": {}} | (read_spec(file) if file else {})
    for name, value in given.items():
        if isinstance(value, dict) and name != "metadata":
            value = spec.get(name, {}) | {key: each for key, each in value.items() if each is not None}
        if value not in (None, {}):
            spec[name] = value
    if dataset is not None:
        spec["dataset_id"] = dataset if DATASET_ID.fullmatch(dataset) else send(client, Path(dataset)).id
    return spec


def read_spec(file: Path) -> dict[str, Any]:
    try:
        spec = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise typer.BadParameter(f"{file} is not JSON: {error}") from error
    if not isinstance(spec, dict):
        raise typer.BadParameter(f"{file} holds no JSON object")
    return spec


def pairs(words: Sequence[str] | None) -> dict[str, str]:
    """From KEY=VALUE."""
    found = {}
    for word in words or ():
        key, equals, value = word.partition("=")
        if not equals:
            raise typer.BadParameter(f"{word!r} is not KEY=VALUE")
        found[key] = value
    return found


def changes(words: Sequence[str] | None) -> dict[str, Any]:
    """From FIELD=VALUE, where dots lead into parts, and a value that is JSON is that."""
    found: dict[str, Any] = {}
    for name, text in pairs(words).items():
        *parts, field = name.split(".")
        place = found
        for part in parts:
            place = place.setdefault(part, {})
        try:
            place[field] = json.loads(text)
        except ValueError:
            place[field] = text
    return found


def trackers(wandb: str | None, mlflow: str | None, tensorboard: bool) -> list[dict[str, Any]]:
    """A spec's `integrations`."""
    named = [
        {"type": "wandb", "wandb": {"project": wandb}} if wandb else None,
        {"type": "mlflow", "mlflow": {"experiment": mlflow}} if mlflow else None,
        {"type": "tensorboard"} if tensorboard else None,
    ]
    return [each for each in named if each is not None]
