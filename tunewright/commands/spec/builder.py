"""Builds a JobSpec from a file and options. The server checks it before a file is uploaded."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from tunewright import Client, Dataset, TunewrightError
from tunewright.commands.datasets import upload_with_progress
from tunewright.commands.spec.options import read_pairs
from tunewright.display import format_time, notes, print_json

DATASET_ID = re.compile(r"file-[0-9a-f]{24}")
NO_DATASET = "file-" + "0" * 24
"""Is the id of no dataset, because ids are random."""
Columns = dict[str, str] | None
"""Maps each field to the file's key for it."""


def build_spec(file: Path | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the file's spec with the options' fields set. Field names are dotted, such as `training.epochs`."""
    spec: dict[str, Any] = {"training": {}} | (read_spec(file) if file else {})
    for field, value in fields.items():
        *parents, last = field.split(".")
        inner = spec
        for parent in parents:
            inner[parent] = inner.get(parent) or {}
            inner = inner[parent]
            if not isinstance(inner, dict):
                raise typer.BadParameter(f"{parent} of the spec is not a JSON object")
        inner[last] = value
    return spec


def read_spec(file: Path) -> dict[str, Any]:
    try:
        spec = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise typer.BadParameter(f"{file} is not valid JSON: {error}") from error
    if not isinstance(spec, dict):
        raise typer.BadParameter(f"{file} does not contain a JSON object")
    return spec


def supply_datasets(
    client: Client, spec: dict[str, Any], datasets: Mapping[str, str | None], mapped: Columns = None
) -> None:
    """Set the datasets of the spec, each given as an id or a file. Files are uploaded after the server has checked the
    rest of the spec."""
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
        message = "A mapping applies only to an uploaded file; the mapping of an existing dataset cannot be changed."
        raise typer.BadParameter(message, param_hint="--map")
    for path in files.values():
        path.stat()
    spec |= {field: text for field, text in datasets.items() if text and field not in files}
    return files


def validate_without_datasets(client: Client, spec: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Check the spec as if its files were already uploaded. Raises the server's errors."""
    try:
        client.validate_job(**{**spec, **dict.fromkeys(files, NO_DATASET)})
    except TunewrightError as error:
        left = [each for each in error.errors if each.pointer.removeprefix("/") not in files]
        if error.code != "invalid_spec":
            raise
        if left:
            places = ", ".join(each.pointer or "the spec" for each in left[:5])
            detail = f"{len(left)} field{'s' * (len(left) != 1)} must be changed: {places}."
            raise TunewrightError(error.status, error.code, detail, left) from None


def show_validated(
    client: Client, spec: dict[str, Any], datasets: Mapping[str, str | None], mapped: Columns, as_json: bool
) -> None:
    """Check the spec, and print it with its defaults. With a file for a dataset, check the rest only."""
    files = set_ids(spec, datasets, mapped)
    if not files:
        found = client.validate_job(**spec)
        print_json(found.raw if as_json else found.spec)
        notes.print(f"The spec is valid. No job was created. The job would wait: {found.waiting_for}.")
        return
    validate_without_datasets(client, spec, files)
    if as_json:
        print_json({"valid": True})
    notes.print(
        "The spec is valid, except for the dataset, which was not checked. Nothing was uploaded and no job was created."
    )


def find_or_upload(client: Client, path: Path, mapped: Columns = None) -> Dataset:
    """Return the newest valid dataset with the same bytes, file suffixes and mapping and a detected format. Uploads the
    file if there is none."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    for dataset in client.list_datasets(state="ready", sha256=sha256):
        is_alike = (
            dataset.format_reason and dataset.columns == mapped and Path(dataset.filename).suffixes == path.suffixes
        )
        if is_alike and not dataset.expires_at:
            notes.print(
                f"Using dataset {dataset.id} of {format_time(dataset.created_at)}: {path} has the same content."
            )
            return dataset
    return upload_with_progress(client, path, mapped=mapped)


def read_changes(words: Sequence[str] | None) -> dict[str, Any]:
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


def build_integrations(wandb: str | None, mlflow: str | None, tensorboard: bool) -> list[dict[str, Any]]:
    """Return the spec's `integrations`."""
    named = [
        {"type": "wandb", "wandb": {"project": wandb}} if wandb else None,
        {"type": "mlflow", "mlflow": {"experiment": mlflow}} if mlflow else None,
        {"type": "tensorboard"} if tensorboard else None,
    ]
    return [each for each in named if each is not None]
