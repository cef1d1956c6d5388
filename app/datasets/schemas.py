"""Datasets on the wire."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from app.db.tables import Dataset
from app.domain.dataset import DatasetState, Problem, Report
from app.domain.record import RecordFormat

EXAMPLE: dict[str, Any] = {
    "id": "file-5f0c1d2e3a4b5c6d7e8f9a0b",
    "filename": "tickets.jsonl",
    "state": "invalid",
    "bytes": 48213,
    "sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    "format": "messages",
    "num_examples": 312,
    "problems": [
        {
            "line": 17,
            "pointer": "/messages",
            "code": "nothing_to_learn",
            "message": "No assistant turn with content and weight 1; add one.",
        }
    ],
    "problem_counts": {"nothing_to_learn": 1},
    "created_at": "2026-01-05T10:12:13.141593Z",
    "expires_at": None,
}


class DatasetOut(BaseModel):
    """An uploaded file. It is `inspecting` until a worker has read it; `invalid` ones train nothing. One that came in
    parts is `uploading` until they are joined."""

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra={"example": EXAMPLE})

    id: str
    filename: str
    """The uploaded file's base name: a label, and never a path."""
    state: DatasetState
    bytes: int
    sha256: str | None
    """Of the stored bytes, in lower-case hex; null while the dataset is `uploading`."""
    format: RecordFormat | None
    """How its records are written, found by looking; null before the inspection, or when no row fits any."""
    num_examples: int | None
    """Rows that are not blank; null before the inspection."""
    problems: list[Problem]
    """The first hundred things wrong with it."""
    problem_counts: dict[str, int]
    """How many things are wrong with it, by code; at most a hundred of one row are counted."""
    created_at: datetime
    expires_at: datetime | None
    """When it is deleted, or as soon after as no unfinished job uses it; null is never."""

    @classmethod
    def of(cls, dataset: Dataset) -> "DatasetOut":
        report = Report.model_validate(dataset.report) if dataset.report else None
        return cls(
            id=dataset.id,
            filename=dataset.filename,
            state=DatasetState(dataset.state),
            bytes=dataset.size,
            sha256=dataset.sha256 or None,
            format=RecordFormat(dataset.format) if dataset.format else None,
            num_examples=dataset.num_examples,
            problems=report.problems if report else [],
            problem_counts=report.problem_counts if report else {},
            created_at=dataset.created_at,
            expires_at=dataset.expires_at,
        )
