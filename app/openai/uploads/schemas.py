"""Defines uploads by parts in OpenAI's format."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from app.db.tables import Upload, UploadPart
from app.domain.datasets.columns import Columns
from app.domain.upload import MAX_PARTS, UploadState
from app.openai.base_schema import unix
from app.openai.files.repository import File
from app.openai.files.schemas import ExpiresAfter, FileObject, FineTune
from app.web.api_model import ApiModel


class CreateUpload(ApiModel):
    """A file to upload in parts."""

    model_config = ConfigDict(
        title="UploadIn",
        strict=True,
        extra="forbid",
        json_schema_extra={
            "example": {
                "bytes": 10_000_000_000,
                "filename": "tickets.jsonl",
                "mime_type": "text/jsonl",
                "purpose": "fine-tune",
            }
        },
    )

    bytes: Annotated[int, Field(ge=1)]
    """Size of the whole file."""
    filename: Annotated[str, Field(min_length=1, max_length=1000)]
    mime_type: Annotated[str, Field(max_length=200)] | None = None
    """Ignored: the file's type is detected from its content."""
    purpose: FineTune
    expires_after: ExpiresAfter | None = None
    columns: Columns | None = None
    """Maps each field to its name in the file: `{"prompt": "input"}`."""


class CompleteUpload(ApiModel):
    """The parts that make up the file."""

    model_config = ConfigDict(
        title="CompletionIn",
        strict=True,
        extra="forbid",
        json_schema_extra={"example": {"part_ids": ["part_0a1b2c3d4e5f60718293a4b5", "part_5f0c1d2e3a4b5c6d7e8f9a0b"]}},
    )

    part_ids: Annotated[list[str], Field(min_length=1, max_length=MAX_PARTS)]
    """The parts, in the file's order."""
    md5: Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$")] | None = None
    """MD5 of the whole file, in hex. If it does not match, the file's status becomes `error`."""


class UploadObject(ApiModel):
    """A file that is uploaded in parts."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    """Size of the whole file, as given at creation."""
    created_at: int
    expires_at: int
    """When the upload expires if it is still pending."""
    filename: str
    purpose: Literal["fine-tune"] = "fine-tune"
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: FileObject | None
    """The file of a completed upload. It is `uploaded` until its parts are assembled and inspected."""

    @classmethod
    def of(cls, upload: Upload, file: File | None = None) -> "UploadObject":
        return cls(
            id=upload.id,
            bytes=upload.size,
            created_at=unix(upload.created_at),
            expires_at=unix(upload.expires_at),
            filename=upload.filename,
            status=UploadState(upload.state).value,
            file=FileObject.of(file) if file else None,
        )


class UploadPartObject(ApiModel):
    """A part that the server has stored."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str

    @classmethod
    def of(cls, part: UploadPart) -> "UploadPartObject":
        return cls(id=part.id, created_at=unix(part.created_at), upload_id=part.upload_id)
