"""Defines the response bodies for adapters."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic import ConfigDict

from app.db.tables import Adapter, Artifact
from app.domain.artifact import ArtifactKind
from app.web.api_model import ApiModel, from_row

SUMMARY: dict[str, Any] = {
    "id": "adp-0a1b2c3d4e5f60718293a4b5",
    "name": "gemma-3-270m-support",
    "job_id": "ftjob-9c1f7b0e2d3a4c5b6a798801",
    "base_model": "gemma-3-270m",
    "base_model_revision": "7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730",
    "size": 19_412_733,
    "created_at": "2026-01-05T10:20:41.271828Z",
}
WEIGHTS: dict[str, Any] = {
    "artifact_id": "art-1d2c3b4a5968778695a4b3c2",
    "path": "adapter_model.safetensors",
    "size": 15_223_448,
    "sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    "url": "/adapters/adp-0a1b2c3d4e5f60718293a4b5/files/adapter_model.safetensors",
}


class AdapterFile(ApiModel):
    model_config = ConfigDict(json_schema_extra={"example": WEIGHTS})

    artifact_id: str
    path: str
    """Path in the adapter's folder."""
    size: int
    sha256: str
    url: str


class AdapterSummary(ApiModel):
    """A trained LoRA adapter in PEFT's format."""

    model_config = ConfigDict(json_schema_extra={"example": SUMMARY})

    id: str
    name: str
    job_id: str
    base_model: str
    base_model_revision: str | None
    """Revision of the base model that it was trained on; it does not work with others."""
    size: int
    """Total size of its files, in bytes."""
    created_at: datetime

    @classmethod
    def of(cls, adapter: Adapter, size: int) -> "AdapterSummary":
        return from_row(cls, adapter, size=size, base_model_revision=_revision(adapter))


class AdapterOut(AdapterSummary):
    """An adapter with its files: those that PEFT loads and those that document it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": SUMMARY
            | {
                "files": [WEIGHTS],
                "archive": WEIGHTS | {"path": "adapter.tar", "url": "/adapters/adp-0a1b2c3d4e5f60718293a4b5/archive"},
                "manifest": {"base_model": {"name": "gemma-3-270m"}, "seed": 0, "num_steps": 80, "final_loss": 0.0312},
            }
        }
    )

    files: list[AdapterFile]
    archive: AdapterFile
    """All files as one tar."""
    manifest: dict[str, Any]
    """How the adapter was trained: spec, digests, versions, losses."""

    @classmethod
    def of_parts(cls, adapter: Adapter, parts: Sequence[Artifact]) -> "AdapterOut":
        files = [_file(part, f"files/{quote(part.path)}") for part in parts if part.kind == ArtifactKind.adapter]
        (archive,) = (_file(part, "archive") for part in parts if part.kind == ArtifactKind.adapter_archive)
        size = sum(file.size for file in files)
        revision = _revision(adapter)
        return from_row(cls, adapter, size=size, base_model_revision=revision, files=files, archive=archive)


def _revision(adapter: Adapter) -> str | None:
    revision: str | None = adapter.manifest["base_model"]["revision"]
    return revision


def _file(part: Artifact, place: str) -> AdapterFile:
    return from_row(AdapterFile, part, artifact_id=part.id, url=f"/adapters/{part.adapter_id}/{place}")
