"""Uploads in parts are joined into a dataset, cancelled or expired, even if a process dies in between."""

import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import func, select, text, update

from app.datasets.service import DatasetService
from app.db.session import Sessions, transaction
from app.db.tables import Dataset, DeletedObject, Upload, UploadPart
from app.dispatcher import Dispatcher
from app.main import create_app
from app.settings import Settings
from app.storage import Storage
from app.uploads.repository import UploadRepository
from app.uploads.service import UploadService, join_next
from tests.integration.datasets.conftest import Begin, Files, Send, refusal


def test_cancelling_an_upload_deletes_its_parts(
    api: TestClient, begin: Begin, send: Send, stored_files: Files, sessions: Sessions, settings: Settings
) -> None:
    id = begin(size=3)
    part = send(id, b"abc")
    for _ in range(2):
        answer = api.post(f"/uploads/{id}/cancel")
        assert (answer.status_code, answer.json()["state"], answer.json()["parts"]) == (200, "cancelled", [])
    for path, body in (("parts", None), ("complete", {"part_ids": [part]})):
        assert refusal(api.post(f"/uploads/{id}/{path}", json=body)) in (
            [(409, "upload_not_pending")] if body else [(409, "upload_not_pending"), (415, "unsupported_media_type")]
        )
    Dispatcher(settings, sessions).collect()
    assert stored_files() == []


def test_an_upload_that_is_not_completed_expires(
    api: TestClient, begin: Begin, send: Send, stored_files: Files, sessions: Sessions, settings: Settings
) -> None:
    dispatcher = Dispatcher(settings, sessions)
    id, kept = begin(size=3), begin(size=3)
    part = send(id, b"abc")
    send(kept, b"def")
    shown = api.get(f"/uploads/{id}").json()
    lifetime = datetime.fromisoformat(shown["expires_at"]) - datetime.fromisoformat(shown["created_at"])
    assert abs(lifetime - timedelta(days=1)) < timedelta(seconds=1)
    with transaction(sessions) as session:
        session.execute(update(Upload).where(Upload.id == id).values(expires_at=func.clock_timestamp()))
    assert refusal(api.post(f"/uploads/{id}/parts", content=b"x")) == (409, "upload_not_pending")
    late = api.post(f"/uploads/{id}/complete", json={"part_ids": [part]})
    assert refusal(late) == (409, "upload_not_pending")
    assert "is expired" in late.json()["detail"]
    dispatcher.retain()
    dispatcher.collect()
    assert [path.parent.name for path in stored_files()] == [kept]
    assert api.get(f"/uploads/{id}").json()["state"] == "expired"
    assert api.get(f"/uploads/{kept}").json()["state"] == "pending"
    with transaction(sessions) as session:
        session.execute(update(Upload).values(ended_at=Upload.ended_at - timedelta(hours=25)))
    dispatcher.retain()
    assert refusal(api.get(f"/uploads/{id}")) == (404, "upload_not_found")
    assert [each["id"] for each in api.get("/uploads").json()["items"]] == [kept]


def test_a_completed_upload_is_kept_until_it_is_joined(
    api: TestClient, begin: Begin, send: Send, join_all: Callable[[], int], sessions: Sessions, settings: Settings
) -> None:
    id = begin(size=3)
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": [send(id, b"abc")]}).json()
    with transaction(sessions) as session:
        session.execute(update(Upload).values(ended_at=Upload.ended_at - timedelta(days=9)))
    dispatcher = Dispatcher(settings, sessions)
    dispatcher.retain()
    dispatcher.collect()
    assert join_all() == 1
    assert api.get(f"/datasets/{made['dataset_id']}/content").content == b"abc"


def test_part_files_without_a_row_are_deleted(
    begin: Begin,
    send: Send,
    stored_files: Files,
    sessions: Sessions,
    settings: Settings,
    project_id: str,
    tmp_path: Path,
) -> None:
    """The server was killed after it stored a part but before it wrote the row, and while it stored a part."""
    id = begin(size=6)
    kept = send(id, b"abc")
    folder = settings.data_dir / "storage" / project_id / "uploads" / id
    (folder / ("part_" + "0" * 24)).write_bytes(b"orphan")
    (folder / ("part_" + "1" * 24 + "#7")).write_bytes(b"half")
    for path in [folder, *folder.iterdir()]:
        os.utime(path, (0, 0))
    dispatcher = Dispatcher(settings, sessions)
    dispatcher.collector.search()
    with transaction(sessions) as session:
        session.execute(update(DeletedObject).values(due_at=func.clock_timestamp()))
    dispatcher.collect()
    assert [path.name for path in stored_files()] == [kept]


def test_a_wrong_md5_makes_the_dataset_invalid(
    api: TestClient, begin: Begin, send: Send, join_all: Callable[[], int], inspect_all: Callable[[], int]
) -> None:
    id = begin(size=3)
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": [send(id, b"abc")], "md5": "0" * 32}).json()
    assert join_all() == 1
    assert inspect_all() == 0
    dataset = api.get(f"/datasets/{made['dataset_id']}").json()
    assert (dataset["state"], dataset["problem_counts"]) == ("invalid", {"md5_mismatch": 1})
    assert hashlib.md5(b"abc").hexdigest() in dataset["problems"][0]["message"]


def test_a_part_missing_from_storage_makes_the_dataset_invalid(
    api: TestClient, begin: Begin, send: Send, join_all: Callable[[], int], stored_files: Files
) -> None:
    id = begin(size=6)
    ids = [send(id, b"abc"), send(id, b"def")]
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": ids}).json()
    next(path for path in stored_files() if path.name == ids[1]).unlink()
    assert join_all() == 1
    dataset = api.get(f"/datasets/{made['dataset_id']}").json()
    assert (dataset["state"], dataset["problem_counts"]) == ("invalid", {"file_missing": 1})
    assert refusal(api.get(f"/datasets/{made['dataset_id']}/content")) == (404, "not_found")
    assert not [path for path in stored_files() if path.name == made["dataset_id"]]


def test_a_dataset_deleted_before_its_parts_are_joined_stays_deleted(
    api: TestClient,
    begin: Begin,
    send: Send,
    join_all: Callable[[], int],
    stored_files: Files,
    sessions: Sessions,
    settings: Settings,
) -> None:
    id = begin(size=3)
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": [send(id, b"abc")]}).json()
    dispatcher = Dispatcher(settings, sessions)
    assert api.delete(f"/datasets/{made['dataset_id']}").status_code == 204
    dispatcher.collect()
    assert join_all() == 1
    dispatcher.collect()
    assert stored_files() == []
    assert refusal(api.get(f"/datasets/{made['dataset_id']}")) == (404, "dataset_not_found")


def test_a_join_that_died_is_repeated(
    api: TestClient, begin: Begin, send: Send, join_all: Callable[[], int], sessions: Sessions, project_id: str
) -> None:
    id = begin(size=3)
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": [send(id, b"abc")]}).json()
    with transaction(sessions) as session:
        assert UploadService(session).projects_with_work() == [project_id]
        assert UploadRepository(session).claim("here-1", 60) is not None
    assert join_all() == 0
    with transaction(sessions) as session:
        assert UploadService(session).projects_with_work() == []
        session.execute(update(Upload).values(joining_until=func.clock_timestamp()))
    assert join_all() == 1
    assert api.get(f"/datasets/{made['dataset_id']}/content").content == b"abc"


def test_a_join_that_is_too_late_changes_nothing(
    api: TestClient,
    begin: Begin,
    send: Send,
    join_all: Callable[[], int],
    sessions: Sessions,
    settings: Settings,
    stored_files: Files,
) -> None:
    """Its lease lapsed, another worker joined the parts, and the parts were deleted."""
    id = begin(size=3)
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": [send(id, b"abc")]}).json()
    dispatcher = Dispatcher(settings, sessions)

    class SlowStorage(Storage):
        def join(self, *arguments: Any, **options: Any) -> Any:
            with transaction(sessions) as session:
                session.execute(update(Upload).values(joining_until=func.clock_timestamp()))
            assert join_all() == 1
            dispatcher.collect()
            return super().join(*arguments, **options)

    assert join_next(sessions, SlowStorage(settings.storage), "here-1")
    dataset = api.get(f"/datasets/{made['dataset_id']}").json()
    assert (dataset["state"], dataset["problem_counts"]) == ("inspecting", {})
    assert api.get(f"/datasets/{made['dataset_id']}/content").content == b"abc"
    assert [path.name for path in stored_files()] == [made["dataset_id"]]


def test_each_upload_is_joined_once_by_concurrent_workers(
    api: TestClient, begin: Begin, send: Send, sessions: Sessions, settings: Settings
) -> None:
    for number in range(6):
        id = begin(size=1)
        api.post(f"/uploads/{id}/complete", json={"part_ids": [send(id, b"%d" % number)]})
    barrier = threading.Barrier(4)

    def work() -> int:
        barrier.wait()
        return sum(1 for _ in iter(lambda: join_next(sessions, Storage(settings.storage), "here-1"), False))

    with ThreadPoolExecutor(4) as pool:
        counts = [each.result() for each in [pool.submit(work) for _ in range(4)]]
    assert sum(counts) == 6
    with transaction(sessions) as session:
        assert set(session.scalars(select(Dataset.state))) == {"inspecting"}
        assert session.scalars(select(UploadPart)).all() == []


def test_a_failed_commit_deletes_the_bytes_of_the_part(
    api: TestClient, begin: Begin, send: Send, sessions: Sessions, stored_files: Files
) -> None:
    id = begin(size=6)
    send(id, b"abc")
    with transaction(sessions) as session:
        session.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'refused'; END $$"
            )
        )
        session.execute(
            text(
                "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON upload_parts DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        )
    assert refusal(api.post(f"/uploads/{id}/parts", content=b"def")) == (500, "internal_error")
    assert len(stored_files()) == 1
    assert len(api.get(f"/uploads/{id}").json()["parts"]) == 1


def test_a_part_that_arrives_after_the_upload_ended_is_refused(
    api: TestClient, begin: Begin, sessions: Sessions, settings: Settings, stored_files: Files, project_id: str
) -> None:
    """The upload is cancelled while a part is being sent."""
    id = begin(size=3)

    def slowly() -> Any:
        yield b"ab"
        with transaction(sessions) as session:
            UploadService(session).cancel(project_id, id)
        yield b"c"

    assert refusal(api.post(f"/uploads/{id}/parts", content=slowly())) == (409, "upload_not_pending")
    assert stored_files() == []


def test_a_dataset_is_found_before_its_parts_are_joined(
    api: TestClient, begin: Begin, send: Send, sessions: Sessions, project_id: str
) -> None:
    id = begin(size=3)
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": [send(id, b"abc")]}).json()
    with transaction(sessions) as session:
        dataset = DatasetService(session).find(project_id, made["dataset_id"])
        assert dataset is not None
        assert dataset.state == "uploading"


def test_server_defaults_apply_to_uploads_and_their_datasets(settings: Settings, make_key: Callable[..., str]) -> None:
    settings.data_dir.mkdir()
    app = create_app(settings.model_copy(update={"dataset_ttl_seconds": 7200.0, "upload_ttl_seconds": 60.0}))
    with TestClient(app, headers={"Authorization": f"Bearer {make_key()}"}) as api:
        upload = api.post("/uploads", json={"bytes": 1, "filename": "a"}).json()
        lifetime = datetime.fromisoformat(upload["expires_at"]) - datetime.fromisoformat(upload["created_at"])
        assert abs(lifetime - timedelta(minutes=1)) < timedelta(seconds=1)
        part = api.post(f"/uploads/{upload['id']}/parts", content=b"x").json()
        made = api.post(f"/uploads/{upload['id']}/complete", json={"part_ids": [part["id"]]}).json()
        dataset = api.get(f"/datasets/{made['dataset_id']}").json()
    assert datetime.fromisoformat(dataset["expires_at"]) - datetime.fromisoformat(dataset["created_at"]) == timedelta(
        hours=2
    )
