"""Defines the request and response bodies for uploads by parts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.db.tables import Upload, UploadPart
from app.domain.datasets.columns import Columns
from app.domain.datasets.formats import RecordFormat
from app.domain.upload import MAX_PARTS, UploadState
from app.settings import CENTURY_SECONDS
from app.web.api_model import from_row

CREATE_EXAMPLE: dict[str, Any] = {"bytes": 10_000_000_000, "filename": "tickets.jsonl"}
COMPLETE_EXAMPLE: dict[str, Any] = {"part_ids": ["part_0a1b2c3d4e5f60718293a4b5", "part_5f0c1d2e3a4b5c6d7e8f9a0b"]}


class UploadIn(BaseModel):
    """A file to upload in parts."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": CREATE_EXAMPLE}
    )

    bytes: Annotated[int, Field(ge=1)]
    """Size of the whole file, in bytes."""
    filename: Annotated[str, Field(min_length=1, max_length=1000)]
    """The file's name: a label, and a hint about the file's format; never a path."""
    expires_after_seconds: Annotated[int | None, Field(ge=1, le=CENTURY_SECONDS)] = None
    """Seconds from the completion to the dataset's deletion; defaults to the server's setting."""
    format: Annotated[RecordFormat | None, Field(strict=False)] = None
    """Format of the rows; detected if omitted."""
    columns: Columns | None = None
    """Each field that is read, with its name in the file: `{"prompt": "input"}`."""


class CompletionIn(BaseModel):
    """The parts of the file."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": COMPLETE_EXAMPLE}
    )

    part_ids: Annotated[list[str], Field(min_length=1, max_length=MAX_PARTS)]
    """Ids of the parts, in the file's order. A part may be used twice."""
    md5: Annotated[str | None, Field(pattern="^[0-9a-fA-F]{32}$")] = None
    """MD5 of the whole file, in hex. If it differs, the dataset becomes `invalid`."""


class PartOut(BaseModel):
    """A part that the server has stored. No crash loses it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    upload_id: str
    bytes: int
    sha256: str
    """SHA-256 of the part, in lower-case hex."""
    created_at: datetime

    @classmethod
    def of(cls, part: UploadPart) -> "PartOut":
        return from_row(cls, part, bytes=part.size)


class UploadSummary(BaseModel):
    """An upload, as lists return it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    filename: str
    bytes: int
    """Size of the whole file in bytes, as set at creation."""
    state: UploadState
    dataset_id: str | None
    """Id of a completed upload's dataset, which is `uploading` until its parts are assembled, then `inspecting`."""
    created_at: datetime
    expires_at: datetime
    """When the upload expires if it is still pending."""

    @classmethod
    def of(cls, upload: Upload) -> "UploadSummary":
        return from_row(cls, upload, bytes=upload.size)


class UploadOut(UploadSummary):
    """An upload with its stored parts. After an interruption they need not be sent again."""

    parts: list[PartOut]
    """The stored parts, in the order of their arrival; empty after they are assembled or the upload has ended."""

    @classmethod
    def with_parts(cls, upload: Upload, parts: Sequence[UploadPart]) -> "UploadOut":
        return from_row(cls, upload, bytes=upload.size, parts=[PartOut.of(part) for part in parts])
