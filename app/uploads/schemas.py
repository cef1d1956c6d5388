"""Uploads by parts on the wire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.db.tables import Upload, UploadPart
from app.domain.datasets.columns import Columns
from app.domain.datasets.formats import RecordFormat
from app.domain.upload import MAX_PARTS, UploadState
from app.settings import CENTURY_SECONDS
from app.web.row_schema import from_row

CREATE_EXAMPLE: dict[str, Any] = {"bytes": 10_000_000_000, "filename": "tickets.jsonl"}
COMPLETE_EXAMPLE: dict[str, Any] = {"part_ids": ["part_0a1b2c3d4e5f60718293a4b5", "part_5f0c1d2e3a4b5c6d7e8f9a0b"]}


class UploadIn(BaseModel):
    """A file that is to come in parts."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": CREATE_EXAMPLE}
    )

    bytes: Annotated[int, Field(ge=1)]
    """Of the whole file."""
    filename: Annotated[str, Field(min_length=1, max_length=1000)]
    """A label, and a hint at what is in it; never a path."""
    expires_after_seconds: Annotated[int | None, Field(ge=1, le=CENTURY_SECONDS)] = None
    """Delete the dataset so long after the completion; the server's default."""
    format: Annotated[RecordFormat | None, Field(strict=False)] = None
    """Of its rows; found by looking unless it is named."""
    columns: Columns | None = None
    """By the field that is read, the file's own name of it: `{"prompt": "input"}`."""


class CompletionIn(BaseModel):
    """Which parts make the file."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": COMPLETE_EXAMPLE}
    )

    part_ids: Annotated[list[str], Field(min_length=1, max_length=MAX_PARTS)]
    """In the file's order. A part may stand twice."""
    md5: Annotated[str | None, Field(pattern="^[0-9a-fA-F]{32}$")] = None
    """Of the whole file, in hex. If it is another, the dataset becomes `invalid`."""


class PartOut(BaseModel):
    """Bytes that the server holds: from its answer on, no crash loses them."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    upload_id: str
    bytes: int
    sha256: str
    """In lower-case hex."""
    created_at: datetime

    @classmethod
    def of(cls, part: UploadPart) -> "PartOut":
        return from_row(cls, part, bytes=part.size)


class UploadSummary(BaseModel):
    """An upload as lists show it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    filename: str
    bytes: int
    """Of the whole file, as promised."""
    state: UploadState
    dataset_id: str | None
    """Of a completed one. The dataset is `uploading` until its parts are assembled, and `inspecting` then."""
    created_at: datetime
    expires_at: datetime
    """When it is given up if it is still pending."""

    @classmethod
    def of(cls, upload: Upload) -> "UploadSummary":
        return from_row(cls, upload, bytes=upload.size)


class UploadOut(UploadSummary):
    """An upload with the parts that are there: what a sender that was interrupted needs not send again."""

    parts: list[PartOut]
    """In the order in which they came. None are left once they are assembled, or the upload is given up."""

    @classmethod
    def with_parts(cls, upload: Upload, parts: Sequence[UploadPart]) -> "UploadOut":
        return from_row(cls, upload, bytes=upload.size, parts=[PartOut.of(part) for part in parts])
