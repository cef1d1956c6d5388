"""An inspection runs in a child process with limits; if the process fails, the dataset becomes invalid."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import httpx2
import psutil
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.db.session import Sessions, transaction
from app.db.tables import Dataset
from app.domain.storage_keys import hashes_key
from app.errors import StorageFull
from app.settings import Settings
from app.storage import Storage
from tests.fixtures.processes import running
from tests.integration.datasets.conftest import jsonl
from worker.inspection.protocol import REPORT, InspectionRequest, InspectionTask
from worker.light import inspections
from worker.light.inspections import InspectionContext, clear_scratch, inspect_next
from worker.processes.inspection import LOG, OWN_VARIABLES, PASSED_ON, run

Upload = Callable[..., httpx2.Response]
LINE = b'{"prompt": "2+2=", "completion": "4, of course"}\n'


def children() -> list[psutil.Process]:
    """Return the inspection processes of this test."""
    return running("worker.inspection")


class SlowStorage(Storage):
    """Returns the first line at once, and the rest after `resume` is set."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.resume = threading.Event()

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        yield LINE
        self.resume.wait(30)
        yield from super().read(key, start, end)


@pytest.fixture
def slow_storage(settings: Settings) -> SlowStorage:
    return SlowStorage(settings.storage)


@pytest.fixture
def running_inspection(
    upload: Upload, place: InspectionContext, slow_storage: SlowStorage
) -> Iterator[tuple[str, psutil.Process]]:
    """Begin an inspection; return the dataset's id and the process that has read its first line."""
    id = upload(LINE * 100).json()["id"]
    thread = threading.Thread(target=inspect_next, args=(place._replace(storage=slow_storage),))
    thread.start()
    while not children():
        time.sleep(0.02)
    yield id, children()[0]
    slow_storage.resume.set()
    thread.join(30)
    assert not thread.is_alive()
    assert not children()
    assert not list((place.work / "inspections").glob("file-*"))


def wait_until_inspected(api: TestClient, id: str) -> dict[str, object]:
    for _ in range(300):
        dataset: dict[str, object] = api.get(f"/datasets/{id}").json()
        if dataset["state"] != "inspecting":
            return dataset
        time.sleep(0.05)
    raise AssertionError("it is still being inspected")


def test_the_process_has_no_credentials(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "TUNEWRIGHT_API_KEY"):
        monkeypatch.setenv(name, "secret")
    _, process = request.getfixturevalue("running_inspection")
    seen = process.environ()
    assert "secret" not in seen.values()
    assert seen.keys() <= {*PASSED_ON, *OWN_VARIABLES, "PYTHONPATH", "LC_CTYPE"}
    while process.rlimit(psutil.RLIMIT_FSIZE)[0] == psutil.RLIM_INFINITY:  # it sets its limits after its imports
        time.sleep(0.02)
    assert process.rlimit(psutil.RLIMIT_AS)[0] == inspections.MEMORY_BYTES
    assert process.rlimit(psutil.RLIMIT_CPU)[0] >= inspections.LEAST_CPU_SECONDS


def test_a_crash_of_the_process_makes_the_dataset_invalid(
    api: TestClient, running_inspection: tuple[str, psutil.Process], slow_storage: SlowStorage
) -> None:
    id, process = running_inspection
    process.send_signal(signal.SIGSEGV)
    slow_storage.resume.set()
    dataset = wait_until_inspected(api, id)
    assert (dataset["state"], dataset["problem_counts"]) == ("invalid", {"unreadable_file": 1})
    [problem] = api.get(f"/datasets/{id}/problems").json()["items"]
    assert (problem["code"], problem["severity"]) == ("unreadable_file", "error")
    assert "signal 11" in problem["message"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MEMORY_BYTES", 400 * 2**20, "memory limit"),
        ("LEAST_CPU_SECONDS", 1, "time limit"),
        ("LEAST_FILE_BYTES", 4096, "size limit"),
    ],
)
def test_exceeding_a_limit_makes_the_dataset_invalid(
    api: TestClient,
    upload: Upload,
    place: InspectionContext,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: int,
    message: str,
) -> None:
    """The datasets: a row of 8 MB that needs far more once parsed; many invalid rows; hashes larger than the limit."""
    monkeypatch.setattr(inspections, name, value)
    monkeypatch.setattr(inspections, "BYTES_A_CPU_SECOND", 10**12)
    bomb = b'{"text": "x", "a": [' + b"{}," * (2_700_000) + b"{}]}"
    data = {"MEMORY_BYTES": bomb, "LEAST_CPU_SECONDS": b'{"text": 1}\n' * 300_000, "LEAST_FILE_BYTES": LINE * 1000}[
        name
    ]
    id = upload(data).json()["id"]
    assert inspect_next(place._replace(max_upload_bytes=1))
    dataset = api.get(f"/datasets/{id}").json()
    assert (dataset["state"], dataset["problem_counts"]) == ("invalid", {"unreadable_file": 1})
    assert message in dataset["problems"][0]["message"]
    assert not list((place.work / "inspections").glob("file-*"))


def test_a_full_disk_raises_storage_full_even_if_the_log_is_on_it(tmp_path: Path) -> None:
    for name in (LOG, REPORT):
        (tmp_path / name).symlink_to("/dev/full")
    limits = {"memory_bytes": inspections.MEMORY_BYTES, "cpu_seconds": 20, "max_file_bytes": 2**20}
    request = InspectionRequest(task=InspectionTask.inspect, filename="rows.jsonl", format=None, **limits)
    with pytest.raises(StorageFull):
        run(request, iter([LINE]), tmp_path, lambda: False)


def test_the_process_ends_with_its_worker(
    upload: Upload, place: InspectionContext, slow_storage: SlowStorage, settings: Settings
) -> None:
    """The worker's pipe closes however it dies. The next worker removes its folder, but not that of a live worker."""
    upload(LINE)
    worker = os.fork()
    if worker == 0:  # pragma: no cover - the worker that is killed
        inspect_next(place._replace(storage=slow_storage))
        os._exit(0)
    try:
        while not children():
            time.sleep(0.02)
        clear_scratch(place.work)
        [folder] = (place.work / "inspections").glob("*/inspect")
        [process] = children()
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
    process.wait(10)
    clear_scratch(place.work)
    assert not folder.exists()
    assert not (place.work / "inspections").exists()


def test_deleting_a_dataset_ends_its_inspection(
    api: TestClient, running_inspection: tuple[str, psutil.Process]
) -> None:
    id, process = running_inspection
    assert api.delete(f"/datasets/{id}").status_code == 204
    process.wait(10)


def test_the_lease_of_a_long_inspection_is_renewed(
    running_inspection: tuple[str, psutil.Process], sessions: Sessions, place: InspectionContext
) -> None:
    id, _ = running_inspection

    def lease_end() -> datetime | None:
        with transaction(sessions) as session:
            return session.scalars(select(Dataset.inspecting_until).where(Dataset.id == id)).one()

    first, until = lease_end(), time.monotonic() + 20
    assert first is not None
    while (end := lease_end()) is not None and end <= first:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert end is not None
    assert not inspect_next(place)


def test_a_draining_worker_releases_its_inspection(
    api: TestClient, upload: Upload, place: InspectionContext, slow_storage: SlowStorage
) -> None:
    id = upload(jsonl([{"text": "a"}])).json()["id"]
    draining = threading.Event()
    thread = threading.Thread(target=inspect_next, args=(place._replace(storage=slow_storage), draining))
    thread.start()
    while not children():
        time.sleep(0.02)
    draining.set()
    slow_storage.resume.set()
    thread.join(10)
    assert not thread.is_alive()
    assert inspect_next(place), "it can be claimed at once, not only after the lease"
    assert api.get(f"/datasets/{id}").json()["state"] == "ready"


def test_a_released_inspection_is_not_renewed(
    api: TestClient,
    upload: Upload,
    place: InspectionContext,
    slow_storage: SlowStorage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here, removing the folder takes longer than the time between two renewals."""
    id = upload(jsonl([{"text": "a"}])).json()["id"]
    draining = threading.Event()
    lease_seconds = 0.6
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: time.sleep(lease_seconds / 2))
    context = place._replace(storage=slow_storage, lease_seconds=lease_seconds)
    thread = threading.Thread(target=inspect_next, args=(context, draining))
    thread.start()
    until = time.monotonic() + 30
    while not children():
        assert time.monotonic() < until
        time.sleep(0.02)
    draining.set()
    slow_storage.resume.set()
    thread.join(10)
    monkeypatch.undo()
    assert not thread.is_alive()
    assert inspect_next(place), "it can be claimed at once, not only after the lease"
    assert api.get(f"/datasets/{id}").json()["state"] == "ready"


def test_hashes_are_stored_next_to_the_dataset(
    api: TestClient, upload: Upload, inspect_all: Callable[[], int], project_id: str, settings: Settings
) -> None:
    id = upload(LINE * 3).json()["id"]
    inspect_all()
    path = settings.data_dir / "storage" / hashes_key(project_id, id, 1)
    assert path.stat().st_size == 3 * 24
    assert api.delete(f"/datasets/{id}").status_code == 204
