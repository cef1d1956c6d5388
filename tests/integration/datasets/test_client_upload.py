"""The client and the command line send large files in parts and resume interrupted uploads."""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from app.storage import Storage
from app.uploads.service import join_next
from tests.integration.datasets.conftest import jsonl
from tunewright import Client, ConnectionFailed, TunewrightError, upload, watch
from tunewright.command_line import app
from worker.light.inspections import InspectionContext, inspect_next

PART = 1000
ROWS = [{"text": os.urandom(30).hex()} for _ in range(200)]
DATA = jsonl(ROWS)
NUM_PARTS = -(-len(DATA) // PART)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "WHOLE_BYTES", 2 * PART)
    monkeypatch.setattr(upload, "PART_BYTES", PART)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def client(live: httpx2.Client) -> Iterator[Client]:
    with Client(str(live.base_url), live.headers["Authorization"].removeprefix("Bearer ")) as client:
        yield client


@pytest.fixture
def work(place: InspectionContext) -> Callable[[], None]:
    """Do all pending work of the light worker."""

    def work() -> None:
        while join_next(place.sessions, place.storage, place.worker_id) or inspect_next(place):
            continue

    return work


def pending(live: httpx2.Client) -> list[dict[str, Any]]:
    items = live.get("/uploads").json()["items"]
    return [live.get(f"/uploads/{each['id']}").json() for each in items if each["state"] == "pending"]


def interrupted_after(num_bytes: int) -> upload.Progress:
    def progress(done: int, total: int) -> None:
        if done > num_bytes:
            raise KeyboardInterrupt

    return progress


def test_a_large_file_is_sent_in_parts(
    client: Client, live: httpx2.Client, rows: Path, work: Callable[[], None]
) -> None:
    progress: list[tuple[int, int]] = []
    dataset = client.upload_dataset(rows, lambda *each: progress.append(each), expires_after_seconds=3600)
    assert (dataset.state, dataset.filename, dataset.bytes, dataset.sha256) == (
        "uploading",
        "rows.jsonl",
        len(DATA),
        None,
    )
    assert dataset.expires_at
    assert progress[-1] == (len(DATA), len(DATA))
    assert progress == sorted(progress)
    assert len(progress) >= NUM_PARTS
    work()
    dataset = client.wait_for_dataset(dataset.id)
    assert (dataset.state, dataset.num_examples) == ("ready", len(ROWS))
    assert dataset.sha256 == hashlib.sha256(DATA).hexdigest()


def test_an_interrupted_upload_is_resumed(
    client: Client, live: httpx2.Client, rows: Path, work: Callable[[], None]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        client.upload_dataset(rows, interrupted_after(5 * PART))
    [begun] = pending(live)
    assert len(begun["parts"]) == 5
    kept = {part["id"] for part in begun["parts"]}
    with pytest.raises(KeyboardInterrupt):
        client.upload_dataset(rows, interrupted_after(8 * PART), resume=True)
    [begun] = pending(live)
    assert len(begun["parts"]) == 8
    dataset = client.upload_dataset(rows, resume=True)
    [ended] = live.get("/uploads").json()["items"]
    assert (ended["id"], ended["dataset_id"]) == (begun["id"], dataset.id)
    parts = live.get(f"/uploads/{ended['id']}").json()["parts"]
    assert len(parts) == NUM_PARTS
    assert kept < {part["id"] for part in parts}
    work()
    assert client.get_dataset(dataset.id).sha256 == hashlib.sha256(DATA).hexdigest()


def test_a_resumed_upload_sends_the_changed_file(
    client: Client, live: httpx2.Client, rows: Path, work: Callable[[], None]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        client.upload_dataset(rows, interrupted_after(5 * PART))
    changed = DATA[:1500].upper() + DATA[1500:]
    rows.write_bytes(changed)
    dataset = client.upload_dataset(rows, resume=True)
    work()
    assert client.get_dataset(dataset.id).sha256 == hashlib.sha256(changed).hexdigest()
    [ended] = live.get("/uploads").json()["items"]
    assert ended["state"] == "completed"


def test_without_resume_or_for_another_file_a_new_upload_is_begun(
    client: Client, live: httpx2.Client, rows: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        client.upload_dataset(rows, interrupted_after(5 * PART))
    client.upload_dataset(rows)
    other = tmp_path / "other.jsonl"
    other.write_bytes(DATA)
    client.upload_dataset(other, resume=True)
    assert len(live.get("/uploads").json()["items"]) == 3
    [begun] = pending(live)
    assert len(begun["parts"]) == 5


def test_equal_parts_are_sent_once(client: Client, live: httpx2.Client, rows: Path, work: Callable[[], None]) -> None:
    line = b'{"text": "' + b"x" * (PART - 13) + b'"}\n'
    rows.write_bytes(line * 6 + b'{"text": "y"}\n')
    dataset = client.upload_dataset(rows)
    [ended] = live.get("/uploads").json()["items"]
    assert len(live.get(f"/uploads/{ended['id']}").json()["parts"]) == 2
    work()
    assert client.get_dataset(dataset.id).sha256 == hashlib.sha256(rows.read_bytes()).hexdigest()


def test_a_file_that_shrinks_during_its_upload_is_refused(client: Client, live: httpx2.Client, rows: Path) -> None:
    def progress(done: int, total: int) -> None:
        if done > 5 * PART:
            os.truncate(rows, 7 * PART)

    with pytest.raises(TunewrightError) as caught:
        client.upload_dataset(rows, progress)
    assert caught.value.code == "invalid_upload_parts"
    assert live.get("/datasets").json()["items"] == []


def test_a_short_failure_of_the_server_is_retried(
    client: Client, live: httpx2.Client, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails twice and the upload still succeeds; a lasting failure is reported."""
    monkeypatch.setattr(watch, "FIRST_DELAY_SECONDS", 0.01)
    real, failures = Storage.writer, iter([True, False, True, False, False])

    def writer(self: Storage, key: str) -> Any:
        if next(failures, False):
            raise OSError(5, "a failing disk")
        return real(self, key)

    monkeypatch.setattr(Storage, "writer", writer)
    assert client.upload_dataset(rows).state == "uploading"
    monkeypatch.setattr(Storage, "writer", lambda *_: (_ for _ in ()).throw(OSError(5, "a failing disk")))
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", 0.05)
    with pytest.raises(TunewrightError) as caught:
        client.upload_dataset(rows)
    assert caught.value.code == "internal_error"


def test_the_command_line_resumes(
    live: httpx2.Client, rows: Path, work: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEWRIGHT_URL", str(live.base_url))
    monkeypatch.setenv("TUNEWRIGHT_API_KEY", live.headers["Authorization"].removeprefix("Bearer "))
    real = upload.send_part
    num_sent = 0

    def send_part(*arguments: Any) -> str:
        nonlocal num_sent
        num_sent += 1
        if num_sent == 4:
            raise ConnectionFailed("The connection broke.")
        return real(*arguments)

    monkeypatch.setattr(upload, "send_part", send_part)
    broken = CliRunner().invoke(app, ["datasets", "upload", str(rows)])
    assert isinstance(broken.exception, ConnectionFailed)
    assert "--resume" in broken.output
    stop = threading.Event()

    def light_worker() -> None:
        while not stop.wait(0.05):
            work()

    worker = threading.Thread(target=light_worker)
    worker.start()
    done = CliRunner().invoke(app, ["datasets", "upload", str(rows), "--resume", "--json"])
    stop.set()
    worker.join()
    assert done.exit_code == 0, done.output
    shown = json.loads(done.output)
    assert (shown["state"], shown["num_examples"]) == ("ready", len(ROWS))
    assert num_sent == NUM_PARTS + 1
