"""Fills a project with believable data, the same each time: `python -m tests.page.demo_data --url … --database-url …`.

Datasets are uploaded and inspected, and every spec is checked, over HTTP. Jobs that would take hours of a GPU, workers,
webhooks and keys are rows.
"""

import argparse
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db.session import Sessions, connect, open_sessions, transaction
from app.db.tables import Dataset, Job
from app.domain.datasets.report import DatasetState
from app.domain.jobs.state import FailureReason
from app.projects.lookup import find_or_create_project
from tests.page.demo import rows
from tests.page.demo.models import add_models
from tests.page.demo.others import add_keys, add_webhooks
from tests.page.demo.previews import add_preview
from tests.page.demo.stories import STORIES, Story
from tests.page.demo.timeline import follow
from tests.page.demo.workers import add_workers
from tests.page.demo.writing import Owner, seeded_id, write_job
from tests.page.stack import Place

INSPECTED_SECONDS = 120.0
SUPPORT, CHECKED, BROKEN = "support-replies.jsonl", "support-replies-validation.jsonl", "chat-export-2026-10.jsonl"


class Demo(NamedTuple):
    jobs: dict[str, str]
    """Maps the jobs' names to their ids."""
    datasets: dict[str, str]
    """Maps the datasets' file names to their ids."""
    preview_id: str


def files() -> dict[str, bytes]:
    """Return the datasets to upload, the oldest first."""
    return {
        "invoice-fields.jsonl": rows.as_lines(rows.invoices(900, 1)),
        "sql-questions.jsonl": rows.as_lines(rows.questions(1600, 2)),
        "tone-preferences.jsonl": rows.as_lines(rows.preferences(800, 3)),
        BROKEN: rows.with_problems(rows.chats(420, 4)),
        CHECKED: rows.as_lines([*rows.chats(194, 5), *list(rows.chats(6, 6))]),
        SUPPORT: rows.as_lines(rows.chats(2400, 6)),
    }


def fill_project(place: Place, project: str = "default") -> Demo:
    now = datetime.now(UTC)
    engine = connect(place.database_url, pool_size=1)
    sessions = open_sessions(engine)
    client = httpx2.Client(base_url=place.url, headers={"Authorization": f"Bearer {place.key}"}, timeout=60)
    try:
        with transaction(sessions) as session:
            project_id = find_or_create_project(session, project)
            add_models(session, now)
            add_workers(session, now)
            add_keys(session, project_id, now)
        contents = files()
        datasets = upload(client, contents)
        specs = {story.name: checked_spec(client, story, datasets) for story in STORIES}
        with transaction(sessions) as session:
            owner = Owner(project_id, storage_folder(place), now)
            set_back(session, datasets, now)
            add_inspecting_dataset(session, project_id, now)
            jobs = {
                story.name: write_job(session, owner, story, follow(story, now), specs[story.name]).id
                for story in (with_reason(story, datasets) for story in STORIES)
            }
            preview_id = add_preview(session, project_id, datasets[SUPPORT], contents[SUPPORT], now)
            add_webhooks(session, project_id, now)
        check_overlap(client, datasets)
        return Demo(jobs, datasets, preview_id)
    finally:
        client.close()
        engine.dispose()


def copy_job(sessions: Sessions, place: Place, job_id: str) -> str:
    """Copy a job of the demonstration with its curves, events and files, for a test to change; return the copy's id."""
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        job = session.get_one(Job, job_id)
        story = next(story for story in STORIES if story.name == job.name)
        copy = replace(story, name=f"{story.name}-{secrets.token_hex(4)}")
        owner = Owner(job.project_id, storage_folder(place), now)
        return write_job(session, owner, copy, follow(copy, now), dict(job.spec) | {"name": copy.name}).id


def remove_job(sessions: Sessions, job_id: str) -> None:
    with transaction(sessions) as session:
        session.execute(delete(Job).where(Job.id == job_id))


def storage_folder(place: Place) -> Path | None:
    """Return the folder of the storage, where the results' files are written; None for other storage."""
    url = place.storage_url
    return Path(url.removeprefix("file://")) if url and url.startswith("file://") else None


def upload(client: httpx2.Client, contents: Mapping[str, bytes]) -> dict[str, str]:
    """Upload the files and wait for their inspections; return the ids by name."""
    ids = {}
    for name, content in contents.items():
        answer = client.put("/datasets", params={"filename": name}, content=content).raise_for_status()
        ids[name] = answer.json()["id"]
    until = time.monotonic() + INSPECTED_SECONDS
    while states := [state for id in ids.values() if (state := state_of(client, id)) == DatasetState.inspecting]:
        if time.monotonic() > until:
            raise RuntimeError(f"{len(states)} datasets are still being inspected. Is a light worker running?")
        time.sleep(0.2)
    return ids


def state_of(client: httpx2.Client, dataset_id: str) -> str:
    return str(client.get(f"/datasets/{dataset_id}").raise_for_status().json()["state"])


def checked_spec(client: httpx2.Client, story: Story, datasets: Mapping[str, str]) -> dict[str, Any]:
    """Return the story's spec with every default, as the API fills it in. One that the API refuses is an error."""
    spec = {
        "name": story.name,
        "suffix": story.name.split("-")[0],
        "base_model": story.base_model,
        "dataset_id": datasets[SUPPORT if story.dataset == BROKEN else story.dataset],
        "method": story.method,
        "metadata": dict(story.metadata),
    } | dict(story.spec)
    spec["training"] = {"learning_rate": story.shape.learning_rate} | dict(story.training)
    spec["resources"] = {"device": "cuda"} | spec.get("resources", {})
    if "validation_dataset_id" in spec:
        spec["validation_dataset_id"] = datasets[spec["validation_dataset_id"]]
    answer = client.post("/jobs", params={"validate_only": True}, json=spec)
    if answer.is_error:
        raise RuntimeError(f"The spec of {story.name} is refused: {answer.text}")
    filled: dict[str, Any] = answer.json()["spec"]
    return filled | {"dataset_id": datasets[story.dataset]}


def with_reason(story: Story, datasets: Mapping[str, str]) -> Story:
    """Complete the failure of a job whose dataset is invalid."""
    if story.failure is None or story.failure[0] != FailureReason.dataset_invalid:
        return story
    id = datasets[story.dataset]
    text = f"Dataset {id} is invalid; GET /datasets/{id} lists its problems. on_bad_rows can skip its bad rows."
    return replace(story, failure=(FailureReason.dataset_invalid, text))


def set_back(session: Session, datasets: Mapping[str, str], now: datetime) -> None:
    """Let the datasets be days old, each older than the jobs that use it."""
    for days, id in zip((14, 12, 9, 0.4, 6, 6.1), datasets.values(), strict=True):
        dataset = session.scalars(select(Dataset).where(Dataset.id == id)).one()
        dataset.created_at = now - timedelta(days=days)


def add_inspecting_dataset(session: Session, project_id: str, now: datetime) -> None:
    """Add a large dataset whose inspection never ends: its lease is a year."""
    id = seeded_id("file-", "crm-export")
    session.add(
        Dataset(
            id=id, project_id=project_id, filename="crm-export-2026-11.parquet", state=DatasetState.inspecting,
            storage_key=f"{project_id}/datasets/{id}", size=1_874_302_916, sha256=seeded_id("", "crm") * 2 + "0" * 16,
            attempt=1, inspecting_until=now + timedelta(days=365), worker_id="atlas-1-2214",
            created_at=now - timedelta(minutes=3),
        )
    )  # fmt: skip


def check_overlap(client: httpx2.Client, datasets: Mapping[str, str]) -> None:
    """Request an overlap check, which a light worker runs."""
    body = {"validation_dataset_id": datasets[CHECKED]}
    client.post(f"/datasets/{datasets[SUPPORT]}/overlaps", json=body).raise_for_status()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.page.demo_data", description=__doc__)
    parser.add_argument("--url", required=True, help="URL of the server")
    parser.add_argument("--key", required=True, help="an API key of the project")
    parser.add_argument("--database-url", required=True, help="database_url in server.json of its data folder")
    parser.add_argument("--storage-url", help="storage_url in server.json; without it, results cannot be downloaded")
    parser.add_argument("--project", default="default", help="project that the key belongs to")
    given = parser.parse_args()
    place = Place(given.url, given.key, given.database_url, "", given.storage_url)
    demo = fill_project(place, given.project)
    print(f"Added {len(demo.jobs)} jobs and {len(demo.datasets)} datasets.")


if __name__ == "__main__":
    main()
