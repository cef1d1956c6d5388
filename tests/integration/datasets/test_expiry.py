"""Expired datasets and files without a dataset are deleted."""

import os
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from app.datasets.service import DatasetService
from app.db.session import Sessions, transaction
from app.db.tables import Dataset, DeletedObject, Job
from app.dispatcher import Dispatcher
from app.domain.ids import new_id
from app.domain.storage_keys import dataset_key
from app.main import create_app
from app.settings import Settings
from app.storage import Storage

Upload = Callable[..., httpx2.Response]
DAY = timedelta(days=1)


@pytest.fixture
def dispatcher(settings: Settings, sessions: Sessions) -> Dispatcher:
    settings.data_dir.mkdir(exist_ok=True)
    return Dispatcher(settings, sessions)


@pytest.fixture
def add_job(sessions: Sessions, project_id: str) -> Callable[[str], str]:
    """Add a queued job that uses a dataset; return its id."""

    def add(dataset_id: str) -> str:
        fields: dict[str, Any] = {"state": "queued", "priority": 0, "base_model": "m", "method": "lora", "spec": {}}
        fields |= {"metadata_": {}, "min_memory_gb": 0, "device": "auto", "project_id": project_id}
        id = new_id("ftjob")
        with transaction(sessions) as session:
            session.add(Job(id=id, **fields))
            DatasetService(session).use(project_id, dataset_id, id, "training")
        return id

    return add


def pass_time(sessions: Sessions, root: Path, time: timedelta) -> None:
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(expires_at=Dataset.expires_at - time))
        session.execute(update(DeletedObject).values(due_at=DeletedObject.due_at - time))
    for path in root.rglob("*"):
        changed_at = path.stat().st_mtime - time.total_seconds()
        os.utime(path, (changed_at, changed_at))


def expiry(answer: httpx2.Response) -> timedelta | None:
    dataset = answer.json()
    expires_at, created_at = dataset["expires_at"], datetime.fromisoformat(dataset["created_at"])
    return datetime.fromisoformat(expires_at) - created_at if expires_at else None


def test_an_upload_returns_when_its_dataset_expires(api: TestClient, upload: Upload) -> None:
    assert expiry(upload()) is None
    answer = upload(params={"expires_after_seconds": 3600})
    assert expiry(answer) == timedelta(hours=1)
    assert api.get(answer.headers["Location"]).json() == answer.json()
    for bad in (0, -1, "soon", 10**12):
        refused = upload(params={"expires_after_seconds": bad})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


def test_the_server_default_applies_to_uploads_without_an_expiry(
    settings: Settings, make_key: Callable[..., str]
) -> None:
    settings.data_dir.mkdir()
    app = create_app(settings.model_copy(update={"dataset_ttl_seconds": 86400}))
    with TestClient(app, headers={"Authorization": f"Bearer {make_key()}"}) as api:
        file = {"file": ("rows.jsonl", b"{}")}
        assert expiry(api.post("/datasets", files=file)) == DAY
        assert expiry(api.post("/datasets", files=file, params={"expires_after_seconds": 60})) == timedelta(minutes=1)


def test_an_expired_dataset_is_deleted_with_its_bytes(
    api: TestClient,
    upload: Upload,
    sessions: Sessions,
    settings: Settings,
    dispatcher: Dispatcher,
    stored_files: Callable[[], list[Path]],
) -> None:
    kept = upload().json()["id"]
    later = upload(params={"expires_after_seconds": 7200}).json()["id"]
    expired = upload(params={"expires_after_seconds": 3600}).json()["id"]
    dispatcher.retain()
    assert len(api.get("/datasets").json()["items"]) == 3
    pass_time(sessions, settings.data_dir / "storage", timedelta(minutes=61))
    dispatcher.retain()
    assert api.get(f"/datasets/{expired}").json()["code"] == "dataset_not_found"
    dispatcher.collect()
    assert {path.name for path in stored_files()} == {kept, later}
    assert {item["id"] for item in api.get("/datasets").json()["items"]} == {kept, later}


def test_a_dataset_in_use_does_not_expire(
    api: TestClient,
    upload: Upload,
    sessions: Sessions,
    project_id: str,
    settings: Settings,
    dispatcher: Dispatcher,
    add_job: Callable[[str], str],
) -> None:
    id = upload(params={"expires_after_seconds": 3600}).json()["id"]
    job = add_job(id)
    pass_time(sessions, settings.data_dir / "storage", 30 * DAY)
    dispatcher.retain()
    dispatcher.collect()
    assert api.get(f"/datasets/{id}/content").status_code == 200
    with transaction(sessions) as session:
        DatasetService(session).release(project_id, job)
    dispatcher.retain()
    assert api.get(f"/datasets/{id}").status_code == 404
    with transaction(sessions) as session:
        assert session.get(Job, job) is not None


def test_a_job_posted_at_the_last_moment_keeps_its_dataset(
    upload: Upload, sessions: Sessions, project_id: str, dispatcher: Dispatcher
) -> None:
    """The first to commit wins: the dispatcher skips a dataset that a job is about to use."""
    id = upload(params={"expires_after_seconds": 1}).json()["id"]
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(expires_at=func.clock_timestamp()))
    fields: dict[str, Any] = {"state": "queued", "priority": 0, "base_model": "m", "method": "lora", "spec": {}}
    fields |= {"metadata_": {}, "min_memory_gb": 0, "device": "auto", "project_id": project_id}
    with transaction(sessions) as session:
        job_id = new_id("ftjob")
        session.add(Job(id=job_id, **fields))
        DatasetService(session).use(project_id, id, job_id, "training")
        dispatcher.retain()
    dispatcher.retain()
    with transaction(sessions) as session:
        assert session.scalars(select(Dataset.id)).all() == [id]


def test_files_without_a_dataset_are_deleted_after_a_day(
    upload: Upload,
    sessions: Sessions,
    settings: Settings,
    project_id: str,
    dispatcher: Dispatcher,
    stored_files: Callable[[], list[Path]],
    tmp_path: Path,
) -> None:
    """The server was killed after it stored the bytes but before it wrote the row, or while it stored the bytes."""
    kept, orphan, half = upload().json()["id"], new_id("file"), f"{new_id('file')}#1"
    root = settings.data_dir / "storage"
    (tmp_path / "rows").write_bytes(b"{}")
    Storage(settings.storage).put_file(dataset_key(project_id, orphan), tmp_path / "rows", "rows")
    (root / dataset_key(project_id, half)).write_bytes(b"half")

    def collect_and_list() -> set[str]:
        dispatcher.collector.search()
        dispatcher.collect()
        return {path.name for path in stored_files()}

    assert collect_and_list() == {kept, orphan, half}
    pass_time(sessions, root, timedelta(hours=23))
    assert collect_and_list() == {kept, orphan, half}
    pass_time(sessions, root, timedelta(hours=2))
    assert collect_and_list() == {kept, orphan}, "it is kept for another hour, in case its row is late"
    pass_time(sessions, root, timedelta(hours=2))
    assert collect_and_list() == {kept}
    with transaction(sessions) as session:
        assert session.scalars(select(DeletedObject.storage_key)).all() == []


def test_a_late_row_keeps_its_bytes(
    sessions: Sessions, settings: Settings, project_id: str, dispatcher: Dispatcher, tmp_path: Path
) -> None:
    """S3 dates an object by the start of its upload, which may take longer than a day."""
    id = new_id("file")
    (tmp_path / "rows").write_bytes(b"{}")
    storage = Storage(settings.storage)
    stored = storage.put_file(dataset_key(project_id, id), tmp_path / "rows", "rows")
    assert storage.root is not None
    pass_time(sessions, storage.root, 2 * DAY)
    dispatcher.collector.search()
    with transaction(sessions) as session:
        assert session.scalars(select(DeletedObject.storage_key)).all() == [stored.key]
        DatasetService(session).add(project_id, id, "rows", stored)
    pass_time(sessions, storage.root, DAY)
    dispatcher.collect()
    assert b"".join(storage.read(stored.key)) == b"{}"
    with transaction(sessions) as session:
        assert session.scalars(select(DeletedObject)).all() == []


def test_the_collector_never_deletes_an_accepted_upload(
    live: httpx2.Client, settings: Settings, sessions: Sessions
) -> None:
    """The collector searches without a pause and deletes files older than a millisecond. An upload may fail, since its
    half-written file is deleted too; an accepted upload stays."""
    eager_dispatcher = Dispatcher(settings.model_copy(update={"orphan_ttl_seconds": 0.001}), sessions)
    stop, rounds, failures = threading.Event(), [], []

    def collect_repeatedly() -> None:
        while not stop.is_set():
            try:
                eager_dispatcher.collector.search()
                eager_dispatcher.collect()
                rounds.append(1)
            except Exception as error:
                failures.append(error)
                return

    def slowly(data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    thread = threading.Thread(target=collect_repeatedly)
    thread.start()
    sent = {}
    for number in range(40):
        data = os.urandom(100_000)
        body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="r"\r\n\r\n' + data + b"\r\n--b--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        content: Any = slowly(body) if number % 2 else body
        answer = live.post("/datasets", headers=headers, content=content)
        if answer.status_code == 201:
            sent[answer.json()["id"]] = data
        if number % 8 == 7:
            id, _ = sent.popitem()
            assert live.delete(f"/datasets/{id}").status_code == 204
    stop.set()
    thread.join()
    assert failures == []
    assert len(rounds) > 3
    assert len(sent) > 10
    for id, data in sent.items():
        assert live.get(f"/datasets/{id}/content").content == data
