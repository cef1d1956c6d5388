"""Builds a JobSpec from a file and from options, and has it checked before anything is uploaded."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from tunewright import Client, Dataset, TunewrightError
from tunewright.commands.datasets import send
from tunewright.commands.spec.options import read_pairs
from tunewright.display import instant, notes, print_json

DATASET_ID = re.compile(r"file-[0-9a-f]{24}")
NO_DATASET = "file-" + "0" * 24
"""Belongs to no dataset, because ids are random."""
Columns = dict[str, str] | None
"""Maps each field to the file's key for it."""


def build_spec(file: Path | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the file's spec, with the options' fields in place of its values. Field names are dotted, such as
    `training.epochs`."""
    spec: dict[str, Any] = {"training": {}} | (read_spec(file) if file else {})
    for field, value in fields.items():
        *parents, last = field.split(".")
        inner = spec
        for parent in parents:
            inner[parent] = inner.get(parent) or {}
            inner = inner[parent]
            if not isinstance(inner, dict):
                raise typer.BadParameter(f"{parent} of the spec is no JSON object")
        inner[last] = value
    return spec


def read_spec(file: Path) -> dict[str, Any]:
    try:
        spec = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise typer.BadParameter(f"{file} is not JSON: {error}") from error
    if not isinstance(spec, dict):
        raise typer.BadParameter(f"{file} holds no JSON object")
    return spec


def supply_datasets(
    client: Client, spec: dict[str, Any], datasets: Mapping[str, str | None], mapped: Columns = None
) -> None:
    """Set the spec's datasets. Each is an id or a file, whose columns are mapped. The server checks the rest of the
    spec before the first file is uploaded."""
    files = set_ids(spec, datasets, mapped)
    if files:
        validate_without_datasets(client, spec, files)
    for field, path in files.items():
        spec[field] = find_or_upload(client, path, mapped).id


def set_ids(spec: dict[str, Any], datasets: Mapping[str, str | None], mapped: Columns) -> dict[str, Path]:
    """Set the datasets given as ids, and return those given as files, by field.

    Raises OSError if a file does not exist, and BadParameter if columns are mapped but there is no file."""
    files = {field: Path(text) for field, text in datasets.items() if text and not DATASET_ID.fullmatch(text)}
    if mapped and not files:
        said = "it says how a file is read when it is uploaded; a dataset that is there is read as it was uploaded."
        raise typer.BadParameter(said, param_hint="--map")
    for path in files.values():
        path.stat()
    spec |= {field: text for field, text in datasets.items() if text and field not in files}
    return files


def validate_without_datasets(client: Client, spec: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Raise the server's errors about the spec, as if the files were datasets already."""
    try:
        client.validate_job(**{**spec, **dict.fromkeys(files, NO_DATASET)})
    except TunewrightError as error:
        left = [each for each in error.errors if each.pointer.removeprefix("/") not in files]
        if error.code != "invalid_spec":
            raise
        if left:
            places = ", ".join(each.pointer or "the spec" for each in left[:5])
            said = f"{len(left)} field{'s' * (len(left) != 1)} must be changed: {places}."
            raise TunewrightError(error.status, error.code, said, left) from None


def show_validated(
    client: Client, spec: dict[str, Any], datasets: Mapping[str, str | None], mapped: Columns, as_json: bool
) -> None:
    """Print the spec with its defaults. If a dataset is still a file, print that the rest is valid."""
    files = set_ids(spec, datasets, mapped)
    if not files:
        found = client.validate_job(**spec)
        print_json(found.raw if as_json else found.spec)
        notes.print(f"The spec is valid; nothing was posted. The job would wait: {found.waiting_for}.")
        return
    validate_without_datasets(client, spec, files)
    if as_json:
        print_json({"valid": True})
    notes.print("The spec is valid but for the dataset, which was not looked at; nothing was uploaded or posted.")


def find_or_upload(client: Client, path: Path, mapped: Columns = None) -> Dataset:
    """Return the newest valid dataset with the same bytes, the same kind of name and the same mapping, whose format was
    detected and not named; otherwise upload the file."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    for dataset in client.list_datasets(state="ready", sha256=sha256):
        is_alike = (
            dataset.format_reason and dataset.columns == mapped and Path(dataset.filename).suffixes == path.suffixes
        )
        if is_alike and not dataset.expires_at:
            notes.print(
                f"Using dataset {dataset.id} of {instant(dataset.created_at)}: it holds the same bytes as {path}."
            )
            return dataset
    return send(client, path, mapped=mapped)


def changes(words: Sequence[str] | None) -> dict[str, Any]:
    """Parse FIELD=VALUE, where dots separate nested fields. A value that is JSON is parsed as JSON."""
    found: dict[str, Any] = {}
    for name, text in read_pairs(words or ()).items():
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
    """Return the spec's `integrations`."""
    named = [
        {"type": "wandb", "wandb": {"project": wandb}} if wandb else None,
        {"type": "mlflow", "mlflow": {"experiment": mlflow}} if mlflow else None,
        {"type": "tensorboard"} if tensorboard else None,
    ]
    return [each for each in named if each is not None]
