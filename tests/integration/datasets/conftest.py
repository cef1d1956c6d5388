"""Uploads as clients write them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from app.db.session import Sessions
from app.settings import Settings
from app.storage import Storage
from worker.inspector import Place, inspect_next

ROWS = [{"prompt": f"{n}+{n}=", "completion": str(2 * n)} for n in range(5)]


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def upload(api: TestClient) -> Callable[..., httpx.Response]:
    """Post bytes as a file; the response."""

    def post(data: bytes = jsonl(ROWS), filename: str = "rows.jsonl", **options: Any) -> httpx.Response:
        return api.post("/datasets", files={"file": (filename, data)}, **options)

    return post


@pytest.fixture
def stored_files(settings: Settings) -> Callable[[], list[Path]]:
    """What lies in storage, half-written objects included."""
    root = settings.data_dir / "storage"
    return lambda: [path for path in root.rglob("*") if path.is_file()]


@pytest.fixture
def place(sessions: Sessions, settings: Settings) -> Place:
    settings.data_dir.mkdir(exist_ok=True)
    return Place("here-1", sessions, Storage(settings.storage), settings.work_dir, 6, settings.max_upload_bytes)


@pytest.fixture
def inspect_all(place: Place) -> Callable[[], int]:
    """Do what the light worker does; the number of inspections."""
    return lambda: sum(1 for _ in iter(lambda: inspect_next(place), False))


@pytest.fixture
def live(live_server: str, make_key: Callable[..., str]) -> Iterator[httpx.Client]:
    """A client of the API behind a real socket."""
    with httpx.Client(base_url=live_server, headers={"Authorization": f"Bearer {make_key()}"}, timeout=30) as client:
        yield client
