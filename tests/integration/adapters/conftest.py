"""A fixture that publishes an adapter as a worker does: bytes are stored first, then rows in one transaction."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from app.adapters.service import AdapterService
from app.db.session import Sessions, transaction
from app.db.tables import Job
from app.domain.ids import new_id
from app.settings import Settings
from app.storage import Storage

FILES = {
    "adapter_config.json": b'{"r": 8}',
    "adapter_model.safetensors": bytes(range(256)) * 40,
    "README.md": b"# card",
}
MANIFEST = {"base_model": {"name": "tiny", "revision": "a" * 40}, "seed": 0, "num_steps": 8}


class Published(NamedTuple):
    id: str
    job_id: str
    tar: bytes


@pytest.fixture
def publish(sessions: Sessions, settings: Settings, project_id: str, tmp_path: Path) -> Callable[..., Published]:
    def make(base_model: str = "tiny", project: str = project_id) -> Published:
        job_id = add_job(sessions, project)
        storage = Storage(settings.storage)
        tar = tar_of(FILES)
        stored = []
        for name, data in (FILES | {"adapter.tar": tar}).items():
            source = tmp_path / name
            source.write_bytes(data)
            stored.append(storage.put_file(f"{project}/jobs/{job_id}/1/{name}", source, name))
        with transaction(sessions) as session:
            id = AdapterService(session).publish(
                project,
                job_id,
                1,
                name=f"ft:{base_model}:support:0a1b2c3d",
                base_model=base_model,
                manifest=MANIFEST,
                files=stored[:-1],
                archive=stored[-1],
            )
        return Published(id, job_id, tar)

    return make


def add_job(sessions: Sessions, project_id: str) -> str:
    id = new_id("ftjob")
    with transaction(sessions) as session:
        session.add(
            Job(
                id=id,
                project_id=project_id,
                state="running",
                priority=0,
                base_model="tiny",
                method="lora",
                spec={},
                metadata_={},
                min_memory_gb=0,
                device="auto",
            )
        )
    return id


def tar_of(files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return whole.getvalue()
