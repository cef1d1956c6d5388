"""Collects what is needed to diagnose a job in one zip file, without secrets and without rows."""

import json
import platform
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tunewright.client import Client
from tunewright.errors import TunewrightError
from tunewright.redaction import redact, redact_json
from tunewright.wire import Job

README: Final = """Support bundle of {id}, made at {now} by tunewright {client} on Python {python}.

job.json          the job: its spec as sent, what was decided (resolved), its state and failure
events.json       what happened to it, oldest first
log.txt           the end of what the latest attempt's process printed
checkpoints.json, artifacts.json
datasets.json     its datasets: state, counts of rows and of problems by code; no row, and no text of one
workers.json      the workers, their versions, and what keeps each from the job
server.json       version, readiness and queue lengths of the server

API keys, webhook secrets, passwords in URLs and what is named like a secret were replaced by [removed].
The log and the metadata are the user's own words: read them before you pass this on.
"""
OF_A_DATASET: Final = (
    *("id", "filename", "state", "bytes", "sha256", "format", "format_reason", "num_examples", "num_bad_rows"),
    *("problem_counts", "cleaned_from", "created_at", "expires_at"),
)


def write_support_bundle(client: Client, job_id: str, path: Path) -> Path:
    """Write the bundle. Raises if the job cannot be read; any other part that cannot be read is replaced by the
    error."""
    job = client.get_job(job_id)
    parts = collect(client, job)
    texts = {"README.txt": describe(job.id)}
    for name, gather in parts.items():
        found = attempt(gather)
        is_text = isinstance(found, str)
        texts[name] = redact(found) if is_text else json.dumps(redact_json(found), indent=2, ensure_ascii=False)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, text in texts.items():
            bundle.writestr(f"{job.id}/{name}", text.encode(errors="backslashreplace"))
    return path


def collect(client: Client, job: Job) -> dict[str, Callable[[], Any]]:
    return {
        "job.json": lambda: job.raw,
        "events.json": lambda: [event.raw for event in client.events(job.id)],
        "log.txt": lambda: client.logs(job.id),
        "checkpoints.json": lambda: [each.raw for each in client.checkpoints(job.id)],
        "artifacts.json": lambda: [each.raw for each in client.artifacts(job.id)],
        "datasets.json": lambda: [attempt(lambda id=id: summarize(client, id)) for id in datasets_of(job)],  # type: ignore[misc]
        "workers.json": lambda: [worker.raw for worker in client.workers(job.id)],
        "server.json": lambda: {
            "about": client.about().raw,
            "readiness": client.readiness().raw,
            "queues": client.queues().raw,
        },
    }


def attempt(gather: Callable[[], Any]) -> Any:
    try:
        return gather()
    except TunewrightError as error:
        return {"error": error.code, "detail": error.detail, "request_id": error.request_id}


def datasets_of(job: Job) -> list[str]:
    named = (job.spec.get("dataset_id"), job.spec.get("validation_dataset_id"))
    return [id for id in named if id]


def summarize(client: Client, id: str) -> dict[str, Any]:
    raw = client.get_dataset(id).raw
    return {name: raw.get(name) for name in OF_A_DATASET}


def describe(job_id: str) -> str:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return README.format(id=job_id, now=now, client=version("tunewright"), python=platform.python_version())
