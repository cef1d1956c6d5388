"""Fixtures for dataset checks: a registered tiny model, uploads and the work of the light worker."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.db.session import Sessions
from app.domain.hardware import WorkerHardware
from app.settings import Settings
from app.storage import Storage
from tests.fixtures.models import register_model
from tests.fixtures.tiny_models import build_tiny_model
from worker.host.model_cache import ModelCache
from worker.light.dataset_checks import run_next_check
from worker.light.inspections import InspectionContext, inspect_next

HERE = WorkerHardware("here-1", "cpu", 16.0, "A processor")
CHAT = "{% for message in messages %}<turn>{{ message.role }}\n{{ message.content }}<end>\n{% endfor %}"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def model(sessions: Sessions, settings: Settings, tiny_model: Path) -> str:
    return register_model(sessions, Storage(settings.storage), "tiny", tiny_model).name


@pytest.fixture
def cache(settings: Settings) -> ModelCache:
    return ModelCache(settings, Storage(settings.storage))


@pytest.fixture
def place(sessions: Sessions, settings: Settings) -> InspectionContext:
    settings.data_dir.mkdir(exist_ok=True)
    return InspectionContext(
        "here-1", sessions, Storage(settings.storage), settings.work_dir, 6, settings.max_upload_bytes
    )


@pytest.fixture
def send(api: TestClient) -> Callable[[list[Any]], str]:
    """Upload rows; return the dataset's id."""

    def post(rows: list[Any]) -> str:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        id: str = api.post("/datasets", files={"file": ("rows.jsonl", data)}).json()["id"]
        return id

    return post


@pytest.fixture
def inspect_all(place: InspectionContext) -> Callable[[], int]:
    return lambda: sum(1 for _ in iter(lambda: inspect_next(place), False))


@pytest.fixture
def run_all_checks(place: InspectionContext, cache: ModelCache) -> Callable[[], int]:
    """Run all dataset checks as the light worker does; return their number."""
    return lambda: sum(1 for _ in iter(lambda: run_next_check(place, cache, HERE), False))
