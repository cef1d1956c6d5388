"""An inspection continues after its lease lapsed, while another worker already has its dataset."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from app.dataset_checks.repository import DatasetCheckRepository
from app.dataset_checks.service import DatasetCheckService
from app.datasets.repository import DatasetRepository
from app.datasets.service import rows_of
from app.db.session import Sessions, transaction
from app.db.tables import Dataset, DatasetCheck, DeletedObject
from app.domain.artifact import StoredFile
from app.domain.dataset_checks.state import DatasetCheckFailure
from app.domain.datasets.report import DatasetState
from app.retention.collector import Collector
from app.settings import Settings
from app.storage import Storage
from worker.light.inspections import InspectionContext, inspect_next

CSV = b"prompt,completion\none,1\ntwo,2\n"
Upload = Callable[..., httpx2.Response]
Files = Callable[[], list[Path]]


class PausingStorage(Storage):
    """Storage of a worker that pauses before it stores its first file, and whose release writes different rows."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.reached, self.resume = threading.Event(), threading.Event()

    def put_file(self, key: str, source: Path, path: str) -> StoredFile:
        if not self.reached.is_set():
            self.reached.set()
            assert self.resume.wait(30)
        source.write_bytes(b'{"prompt": "three", "completion": "3"}\n' + source.read_bytes())
        return super().put_file(key, source, path)


@contextmanager
def slow_inspection(place: InspectionContext, settings: Settings, sessions: Sessions) -> Iterator[None]:
    """Begin an inspection and let its lease lapse; it ends after the block."""
    storage = PausingStorage(settings.storage)
    thread = threading.Thread(target=inspect_next, args=(place._replace(storage=storage, worker_id="slow-1"),))
    thread.start()
    assert storage.reached.wait(30)
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(inspecting_until=func.clock_timestamp()))
    yield
    storage.resume.set()
    thread.join(30)
    assert not thread.is_alive()


def test_a_slow_inspection_overwrites_nothing_and_leaves_no_files(
    api: TestClient,
    upload: Upload,
    place: InspectionContext,
    settings: Settings,
    sessions: Sessions,
    stored_files: Files,
    tmp_path: Path,
) -> None:
    id = upload(CSV, "rows.csv").json()["id"]
    with slow_inspection(place, settings, sessions):
        assert inspect_next(place)
        before = {path: path.read_bytes() for path in stored_files()}
    assert api.get(f"/datasets/{id}").json()["num_examples"] == 2
    with transaction(sessions) as session:
        dataset = session.get_one(Dataset, id)
    place.storage.fetch(rows_of(dataset), tmp_path / "rows")
    assert len((tmp_path / "rows").read_bytes().splitlines()) == 2
    assert len(stored_files()) > len(before)
    Collector(settings, sessions, place.storage).collect()
    assert {path: path.read_bytes() for path in stored_files()} == before


def test_files_of_an_inspection_that_died_are_deleted(
    upload: Upload, place: InspectionContext, settings: Settings, sessions: Sessions, stored_files: Files
) -> None:
    """The inspection dies after it stored its files and before it writes its result."""
    upload(CSV, "rows.csv")
    with slow_inspection(place, settings, sessions):
        assert inspect_next(place)
        before = set(stored_files())
    collector = Collector(settings.model_copy(update={"orphan_ttl_seconds": 0}), sessions, place.storage)
    with transaction(sessions) as session:
        for deleted in session.scalars(select(DeletedObject)):
            session.delete(deleted)
    collector.search()
    with transaction(sessions) as session:
        session.execute(update(DeletedObject).values(due_at=func.clock_timestamp()))
    collector.collect()
    assert set(stored_files()) == before


def test_a_slow_inspection_does_not_affect_the_current_one(
    api: TestClient, upload: Upload, place: InspectionContext, settings: Settings, sessions: Sessions
) -> None:
    """It changes neither the state of the dataset nor the lease."""
    id = upload(CSV, "rows.csv").json()["id"]
    with slow_inspection(place, settings, sessions), transaction(sessions) as session:
        claimed = DatasetRepository(session).claim_for_inspection("slow-1", 60)
        assert claimed is not None
    with transaction(sessions) as session:
        dataset = session.get_one(Dataset, id)
        assert (dataset.state, dataset.inspecting_until) == ("inspecting", claimed.inspecting_until)
        assert DatasetRepository(session).renew(claimed, 60)


def test_when_two_workers_clean_a_dataset_the_later_claim_wins(
    api: TestClient,
    upload: Upload,
    place: InspectionContext,
    settings: Settings,
    sessions: Sessions,
    stored_files: Files,
) -> None:
    source = upload(b'{"text": "a"}\n{"text": 1}\n').json()["id"]
    assert inspect_next(place)
    id = api.post(f"/datasets/{source}/clean", json={}).json()["id"]
    with slow_inspection(place, settings, sessions):
        assert inspect_next(place)
    dataset = api.get(f"/datasets/{id}").json()
    assert (dataset["state"], dataset["num_examples"]) == ("ready", 1)
    assert api.get(f"/datasets/{id}/content").content == b'{"text": "a"}\n'
    Collector(settings, sessions, place.storage).collect()
    assert api.get(f"/datasets/{id}/content").content == b'{"text": "a"}\n'


@pytest.mark.parametrize("second", ["here-2", "here-1"])
def test_a_slow_inspection_and_a_slow_dataset_check_change_nothing(
    second: str, api: TestClient, upload: Upload, sessions: Sessions
) -> None:
    ids = [upload(b'{"text": "a"}\n').json()["id"] for _ in range(2)]
    with transaction(sessions) as session:
        datasets = DatasetRepository(session)
        slow = datasets.claim_for_inspection("here-1", 0)
        assert slow is not None
        session.expunge(slow)
        later = datasets.claim_for_inspection(second, 60)
        assert later is not None
        assert slow.id == later.id == ids[0]
        assert not datasets.renew(slow, 60)
        assert not datasets.give_back(slow)
        assert not datasets.conclude(slow, state=DatasetState.invalid)
        assert datasets.conclude(later, state=DatasetState.ready)
        session.execute(update(Dataset).values(state=DatasetState.ready))
    answer = api.post(f"/datasets/{ids[0]}/overlaps", json={"validation_dataset_id": ids[1]})
    assert answer.is_success, answer.text
    with transaction(sessions) as session:
        checks = DatasetCheckRepository(session)
        slow_check = checks.claim("here-1", 0)
        assert slow_check is not None
        session.expunge(slow_check)
        later_check = checks.claim(second, 60)
        assert later_check is not None
        assert not checks.renew(slow_check, 60)
        assert not checks.give_back(slow_check)
        assert not DatasetCheckService(session).fail(slow_check, DatasetCheckFailure.internal_error, "")
        assert DatasetCheckService(session).fail(later_check, DatasetCheckFailure.internal_error, "")
        assert session.scalars(select(DatasetCheck.state)).one() == "failed"
