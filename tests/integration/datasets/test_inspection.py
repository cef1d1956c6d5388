"""The light worker inspects uploaded datasets."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
from fastapi.testclient import TestClient
from sqlalchemy import delete, func, select, update

from app.datasets.repository import DatasetRepository
from app.datasets.service import DatasetService
from app.db.session import Sessions, transaction
from app.db.tables import Dataset, OutboxRow
from app.settings import Settings
from app.storage import Storage
from app.uploads.service import join_next
from worker.light.inspections import InspectionContext, inspect_next

Upload = Callable[..., httpx2.Response]
InspectAll = Callable[[], int]


def test_a_good_dataset_becomes_ready_and_wakes_the_training_workers(
    api: TestClient, upload: Upload, inspect_all: InspectAll, sessions: Sessions
) -> None:
    id = upload().json()["id"]
    with transaction(sessions) as session:
        session.execute(delete(OutboxRow))
    assert inspect_all() == 1
    dataset = api.get(f"/datasets/{id}").json()
    assert (dataset["state"], dataset["format"], dataset["num_examples"]) == ("ready", "prompt_completion", 5)
    assert dataset["problems"] == []
    with transaction(sessions) as session:
        assert session.scalars(select(OutboxRow.queue)).all() == ["training"]
    assert inspect_all() == 0


BAD = [
    (b"", "no_rows"),
    (b"\xef\xbb\xbf", "no_rows"),
    ('{"text": "naïve"}'.encode("latin-1"), "not_utf8"),
    ('{"text": "hello"}\n'.encode("utf-16"), "not_utf8"),
    (b"a,b\n1,2\n", "not_json"),
    (b"[" * 100_000 + b"\n", "unterminated_array"),
    (b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nesting_too_deep"),
    (b'{"text": "' + b"x" * 17_000_000 + b'"}\n', "line_too_long"),
    (b"\x00" * 5000, "nul_bytes"),
    (b'{"text": "\\ud800"}\n', "lone_surrogate"),
    (b'{"\\u0000": "\\u0000"}\n', "unknown_format"),
    (json.dumps({"k" * 100_000: 1}).encode(), "unknown_format"),
]


def test_bad_datasets_become_invalid_with_a_reason(api: TestClient, upload: Upload, inspect_all: InspectAll) -> None:
    ids = [upload(data).json()["id"] for data, _ in BAD]
    assert inspect_all() == len(BAD)
    for id, (_, code) in zip(ids, BAD, strict=True):
        dataset = api.get(f"/datasets/{id}").json()
        assert dataset["state"] == "invalid"
        assert code in dataset["problem_counts"]
        assert dataset["problems"][0]["code"] == code
        assert all(len(problem["message"]) < 1000 for problem in dataset["problems"])


def test_a_filename_with_direction_marks_is_reported_for_every_kind_of_upload(
    api: TestClient, upload: Upload, inspect_all: InspectAll, place: InspectionContext
) -> None:
    name, data = "rows\u202elnosj.exe", b'{"text": "a"}\n'
    begun = api.post("/uploads", json={"bytes": len(data), "filename": name}).json()
    part = api.post(f"/uploads/{begun['id']}/parts", content=data).json()["id"]
    joined = api.post(f"/uploads/{begun['id']}/complete", json={"part_ids": [part]}).json()["dataset_id"]
    assert join_next(place.sessions, place.storage, "here-1")
    put = api.put("/datasets", params={"filename": name}, content=data).json()["id"]
    ids = [upload(data, name).json()["id"], put, joined]
    plain = upload(data, "rows.jsonl").json()["id"]
    assert inspect_all() == 4
    for id in ids:
        dataset = api.get(f"/datasets/{id}").json()
        assert (dataset["filename"], dataset["state"]) == ("rowslnosj.exe", "ready")
        assert dataset["problem_counts"] == {"unsafe_filename": 1}
        [problem] = api.get(f"/datasets/{id}/problems").json()["items"]
        assert (problem["code"], problem["severity"], problem["line"]) == ("unsafe_filename", "warning", 1)
    assert api.get(f"/datasets/{plain}").json()["problem_counts"] == {}


def test_each_dataset_is_inspected_once_by_concurrent_workers(upload: Upload, place: InspectionContext) -> None:
    for _ in range(6):
        upload()
    barrier = threading.Barrier(4)

    def work() -> int:
        barrier.wait()
        return sum(1 for _ in iter(lambda: inspect_next(place), False))

    with ThreadPoolExecutor(4) as pool:
        counts = [each.result() for each in [pool.submit(work) for _ in range(4)]]
    assert sum(counts) == 6


def test_an_inspection_that_died_is_repeated_after_its_lease(
    api: TestClient, upload: Upload, inspect_all: InspectAll, sessions: Sessions, project_id: str
) -> None:
    id = upload().json()["id"]
    with transaction(sessions) as session:
        assert DatasetRepository(session).claim_for_inspection("here-1", 60) is not None
    assert inspect_all() == 0
    with transaction(sessions) as session:
        assert DatasetService(session).projects_with_work() == []
        session.execute(update(Dataset).values(inspecting_until=func.now()))
    with transaction(sessions) as session:
        assert DatasetService(session).projects_with_work() == [project_id]
    assert inspect_all() == 1
    assert api.get(f"/datasets/{id}").json()["state"] == "ready"


def test_a_dataset_deleted_during_its_inspection_stays_deleted(
    api: TestClient, upload: Upload, place: InspectionContext, settings: Settings
) -> None:
    id = upload().json()["id"]

    class Deleting(Storage):
        def read(self, key: str, start: int = 0, end: int | None = None):  # type: ignore[no-untyped-def]
            yield from super().read(key, start, end)
            assert api.delete(f"/datasets/{id}").status_code == 204

    assert inspect_next(place._replace(storage=Deleting(settings.storage)))
    assert api.get(f"/datasets/{id}").status_code == 404


def test_a_file_missing_from_storage_is_reported(
    api: TestClient, upload: Upload, inspect_all: InspectAll, stored_files: Callable[[], list[Path]]
) -> None:
    id = upload().json()["id"]
    stored_files()[0].unlink()
    assert inspect_all() == 1
    assert api.get(f"/datasets/{id}").json()["problem_counts"] == {"file_missing": 1}
    content = api.get(f"/datasets/{id}/content")
    assert (content.status_code, content.json()["code"]) == (404, "not_found")
