"""Fixtures that upload datasets as clients do, and that do the work of the light worker."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from app.db.session import Sessions
from app.settings import Settings
from app.storage import Storage
from app.uploads.service import join_next
from worker.light.inspections import InspectionContext, inspect_next

ROWS = [{"prompt": f"{n}+{n}=", "completion": str(2 * n)} for n in range(5)]


Files = Callable[[], list[Path]]
Begin = Callable[..., str]
Send = Callable[[str, bytes], str]


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


DATA = jsonl(ROWS * 40)


@pytest.fixture
def upload(api: TestClient) -> Callable[..., httpx2.Response]:
    """Post bytes as a file; return the response."""

    def post(data: bytes = jsonl(ROWS), filename: str = "rows.jsonl", **options: Any) -> httpx2.Response:
        return api.post("/datasets", files={"file": (filename, data)}, **options)

    return post


@pytest.fixture
def stored_files(settings: Settings) -> Callable[[], list[Path]]:
    """List the files in storage, half-written objects included."""
    root = settings.data_dir / "storage"
    return lambda: [path for path in root.rglob("*") if path.is_file()]


@pytest.fixture
def place(sessions: Sessions, settings: Settings) -> InspectionContext:
    settings.data_dir.mkdir(exist_ok=True)
    return InspectionContext(
        "here-1", sessions, Storage(settings.storage), settings.work_dir, 6, settings.max_upload_bytes
    )


@pytest.fixture
def inspect_all(place: InspectionContext) -> Callable[[], int]:
    """Run all inspections as the light worker does; return their number."""
    return lambda: sum(1 for _ in iter(lambda: inspect_next(place), False))


@pytest.fixture
def live(live_server: str, make_key: Callable[..., str]) -> Iterator[httpx2.Client]:
    """Connect a client to the API through a real socket."""
    with httpx2.Client(base_url=live_server, headers={"Authorization": f"Bearer {make_key()}"}, timeout=30) as client:
        yield client


@pytest.fixture
def begin(api: TestClient) -> Begin:
    """Begin an upload; return its id."""

    def begin(size: int = len(DATA), filename: str = "rows.jsonl", **fields: Any) -> str:
        answer = api.post("/uploads", json={"bytes": size, "filename": filename, **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    return begin


@pytest.fixture
def send(api: TestClient) -> Send:
    """Send a part; return its id."""

    def send(upload_id: str, data: bytes) -> str:
        answer = api.post(f"/uploads/{upload_id}/parts", content=data)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    return send


@pytest.fixture
def join_all(sessions: Sessions, settings: Settings) -> Callable[[], int]:
    """Join all completed uploads as the light worker does; return their number."""
    return lambda: sum(1 for _ in iter(lambda: join_next(sessions, Storage(settings.storage), "here-1"), False))


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]
