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
from app.web.row_schema import from_row

CREATE_EXAMPLE: dict[str, Any] = {"bytes": 10_000_000_000, "filename": "tickets.jsonl"}
COMPLETE_EXAMPLE: dict[str, Any] = {"part_ids": ["part_0a1b2c3d4e5f60718293a4b5", "part_5f0c1d2e3a4b5c6d7e8f9a0b"]}


class UploadIn(BaseModel):
    """Describes a file that will be sent in parts."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": CREATE_EXAMPLE}
    )

    bytes: Annotated[int, Field(ge=1)]
    """Gives the size of the whole file."""
    filename: Annotated[str, Field(min_length=1, max_length=1000)]
    """Gives the file's name: a label, and a hint about the file's format; never a path."""
    expires_after_seconds: Annotated[int | None, Field(ge=1, le=CENTURY_SECONDS)] = None
    """Sets the seconds from the completion to the dataset's deletion. Defaults to the server's setting."""
    format: Annotated[RecordFormat | None, Field(strict=False)] = None
    """Gives the format of its rows; detected if omitted."""
    columns: Columns | None = None
    """Maps each field that is read to its name in the file: `{"prompt": "input"}`."""


class CompletionIn(BaseModel):
    """Names the parts of the file."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": COMPLETE_EXAMPLE}
    )

    part_ids: Annotated[list[str], Field(min_length=1, max_length=MAX_PARTS)]
    """Lists the parts in the file's order. A part may be used twice."""
    md5: Annotated[str | None, Field(pattern="^[0-9a-fA-F]{32}$")] = None
    """Gives the MD5 of the whole file, in hex. If it differs, the dataset becomes `invalid`."""


class PartOut(BaseModel):
    """Describes a part that the server has stored. No crash loses it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    upload_id: str
    bytes: int
    sha256: str
    """Gives the digest in lower-case hex."""
    created_at: datetime

    @classmethod
    def of(cls, part: UploadPart) -> "PartOut":
        return from_row(cls, part, bytes=part.size)


class UploadSummary(BaseModel):
    """Describes an upload as lists show it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    filename: str
    bytes: int
    """Gives the size of the whole file, as set at creation."""
    state: UploadState
    dataset_id: str | None
    """Identifies the dataset of a completed upload. It is `uploading` until its parts are assembled, then
    `inspecting`."""
    created_at: datetime
    expires_at: datetime
    """Gives the time at which it expires if it is still pending."""

    @classmethod
    def of(cls, upload: Upload) -> "UploadSummary":
        return from_row(cls, upload, bytes=upload.size)


class UploadOut(UploadSummary):
    """Describes an upload with its stored parts, which an interrupted sender need not send again."""

    parts: list[PartOut]
    """Lists the parts in the order in which they arrived. Empty once they are assembled, or the upload has ended."""

    @classmethod
    def with_parts(cls, upload: Upload, parts: Sequence[UploadPart]) -> "UploadOut":
        return from_row(cls, upload, bytes=upload.size, parts=[PartOut.of(part) for part in parts])
