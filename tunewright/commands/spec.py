"""A JobSpec from a file and from options."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from tunewright import Client, TunewrightError
from tunewright.commands.datasets import send
from tunewright.display import notes, print_json

DATASET_ID = re.compile(r"file-[0-9a-f]{24}")


NOT_UPLOADED = "file-" + "0" * 24
"""Stands for a dataset that is still a file here; no dataset has this id."""


PLACES = {
    "model": "base_model",
    "method": "method",
    "objective": "objective",
    "beta": "dpo.beta",
    "init_from": "init_from",
    "validation_split": "validation_split",
    "name": "name",
    "suffix": "suffix",
    "rank": "adapter.rank",
    "alpha": "adapter.alpha",
}
PLACES |= {
    name: f"training.{name}" for name in ("epochs", "max_steps", "batch_size", "learning_rate", "max_seq_len", "seed")
}
"""The field that each option of `jobs create` fills."""


def build_spec(file: Path | None, dataset: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The file's spec with the options over it. A dataset that is a file is no part of it yet."""
    spec = {"training": {}} | (read_spec(file) if file else {})
    if file_to_upload(dataset) is None:
        options = {**options, "dataset_id": dataset}
    for place, value in places_of(options).items():
        if value is not None:
            set_field(spec, place, value)
    return spec


def places_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted field; None was not given."""
    places = {place: options[name] for name, place in PLACES.items()}
    places["dataset_id"] = options.get("dataset_id")
    places["resources.labels"] = pairs(options["label"]) or None
    places["metadata"] = pairs(options["metadata"]) or None
    places["integrations"] = trackers(options["wandb"], options["mlflow"], options["tensorboard"]) or None
    if (share := options["skip_bad_rows"]) is not None:
        places |= {"on_bad_rows.action": "skip", "on_bad_rows.max_share": share}
    return places


def set_field(spec: dict[str, Any], place: str, value: Any) -> None:
    part, dot, name = place.rpartition(".")
    if not dot:
        spec[name] = value
        return
    inner = spec.get(part) or {}
    if not isinstance(inner, dict):
        raise typer.BadParameter(f"{part} of the spec is no JSON object")
    spec[part] = inner | {name: value}


def file_to_upload(dataset: str | None) -> Path | None:
    """The dataset, if it is a file and no id."""
    return None if dataset is None or DATASET_ID.fullmatch(dataset) else Path(dataset)


def upload_for(client: Client, spec: dict[str, Any], dataset: str | None) -> dict[str, Any]:
    """Return the spec with the dataset in it, which is uploaded if it is a file and the rest of the spec is good."""
    path = file_to_upload(dataset)
    if path is None:
        return spec
    if path.is_file():
        validate_without_dataset(client, spec)
    return spec | {"dataset_id": send(client, path).id}


def validate_without_dataset(client: Client, spec: dict[str, Any]) -> None:
    """Raise what the server would refuse of the spec if the dataset were there."""
    try:
        client.validate_job(**spec | {"dataset_id": NOT_UPLOADED})
    except TunewrightError as error:
        left = [each for each in error.errors if each.pointer != "/dataset_id"]
        if error.code != "invalid_spec":
            raise
        if left:
            places = ", ".join(each.pointer or "the spec" for each in left[:5])
            said = f"{len(left)} field{'s' * (len(left) != 1)} must be changed: {places}."
            raise TunewrightError(error.status, error.code, said, left) from None


def show_validated(client: Client, spec: dict[str, Any], dataset: str | None, as_json: bool) -> None:
    """Print the filled spec; of one whose dataset is still a file, that the rest is good."""
    path = file_to_upload(dataset)
    if path is None:
        found = client.validate_job(**spec)
        print_json(found.raw if as_json else found.spec)
        notes.print(f"The spec is valid; nothing was posted. The job would wait: {found.waiting_for}.")
        return
    if not path.is_file():
        raise typer.BadParameter(f"{path} is no file, and no dataset's id")
    validate_without_dataset(client, spec)
    if as_json:
        print_json({"valid": True})
    notes.print("The spec is valid but for the dataset, which was not looked at; nothing was uploaded or posted.")


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
