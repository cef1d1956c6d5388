"""Writes a zip file for diagnosing a job, without secrets and without rows of datasets."""

import json
import platform
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tunewright.client import Client
from tunewright.errors import TunewrightError
from tunewright.redaction import redact, redact_json
from tunewright.wire import Job

README: Final = """Support bundle of job {id}, written at {now} by tunewright {client} on Python {python}.

job.json          the job: spec, resolved settings, state and failure
events.json       the job's events, oldest first
log.txt           the end of the log of the latest attempt's training process
checkpoints.json  the job's checkpoints
artifacts.json    the job's artifacts
datasets.json     the job's datasets: state, number of rows and problem counts by code; no row
workers.json      the workers, their versions, and the reasons why each cannot take the job
server.json       the server's version, readiness and queue lengths

API keys, webhook secrets, passwords in URLs, and values that are named like secrets were replaced by [removed].
The log and the metadata can contain users' text. Read them before you share this file.
"""
DATASET_FIELDS: Final = (
    *("id", "filename", "state", "bytes", "sha256", "format", "format_reason", "num_examples", "num_bad_rows"),
    *("problem_counts", "cleaned_from", "created_at", "expires_at"),
)


def write_support_bundle(client: Client, job_id: str, path: Path) -> Path:
    """Write the bundle. Raises if the job cannot be read. A part that cannot be read contains the error instead."""
    job = client.get_job(job_id)
    parts = list_parts(client, job)
    texts = {"README.txt": write_readme(job.id)}
    for name, read in parts.items():
        found = read_or_describe_error(read)
        is_text = isinstance(found, str)
        texts[name] = redact(found) if is_text else json.dumps(redact_json(found), indent=2, ensure_ascii=False)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, text in texts.items():
            bundle.writestr(f"{job.id}/{name}", text.encode(errors="backslashreplace"))
    return path


def list_parts(client: Client, job: Job) -> dict[str, Callable[[], Any]]:
    return {
        "job.json": lambda: job.raw,
        "events.json": lambda: [event.raw for event in client.events(job.id)],
        "log.txt": lambda: client.logs(job.id),
        "checkpoints.json": lambda: [each.raw for each in client.checkpoints(job.id)],
        "artifacts.json": lambda: [each.raw for each in client.artifacts(job.id)],
        "datasets.json": lambda: [
            read_or_describe_error(partial(summarize_dataset, client, id)) for id in find_dataset_ids(job)
        ],
        "workers.json": lambda: [worker.raw for worker in client.workers(job.id)],
        "server.json": lambda: {
            "about": client.about().raw,
            "readiness": client.readiness().raw,
            "queues": client.queues().raw,
        },
    }


def read_or_describe_error(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except TunewrightError as error:
        return {"error": error.code, "detail": error.detail, "request_id": error.request_id}


def find_dataset_ids(job: Job) -> list[str]:
    named = (job.spec.get("dataset_id"), job.spec.get("validation_dataset_id"))
    return [id for id in named if id]


def summarize_dataset(client: Client, id: str) -> dict[str, Any]:
    raw = client.get_dataset(id).raw
    return {name: raw.get(name) for name in DATASET_FIELDS}


def write_readme(job_id: str) -> str:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return README.format(id=job_id, now=now, client=version("tunewright"), python=platform.python_version())
