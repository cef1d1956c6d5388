"""Defines the response bodies for artifacts."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from app.db.tables import Artifact
from app.domain.artifact import ArtifactKind
from app.web.api_model import from_row


class ArtifactOut(BaseModel):
    """A file that a job has produced. It never changes."""

    model_config = ConfigDict(
        use_attribute_docstrings=True,
        json_schema_extra={
            "example": {
                "id": "art-1d2c3b4a5968778695a4b3c2",
                "job_id": "ftjob-9c1f7b0e2d3a4c5b6a798801",
                "attempt": 1,
                "adapter_id": "adp-0a1b2c3d4e5f60718293a4b5",
                "kind": "adapter",
                "path": "adapter_model.safetensors",
                "size": 15_223_448,
                "sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
                "url": "/artifacts/art-1d2c3b4a5968778695a4b3c2/content",
                "created_at": "2026-01-05T10:20:41.271828Z",
            }
        },
    )

    id: str
    job_id: str
    attempt: int
    """Number of the attempt that produced it."""
    adapter_id: str | None
    """Id of the adapter that it belongs to; null for a fully fine-tuned model, and for reports about the rows."""
    kind: ArtifactKind
    path: str
    """Path in the result's folder, or the file's name."""
    size: int
    sha256: str
    url: str
    created_at: datetime

    @classmethod
    def of(cls, artifact: Artifact) -> "ArtifactOut":
        return from_row(cls, artifact, url=f"/artifacts/{artifact.id}/content")


class ArtifactList(BaseModel):
    """All artifacts of a job, ordered by path; empty until it has succeeded."""

    items: list[ArtifactOut]
