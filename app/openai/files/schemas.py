"""Defines files in OpenAI's format."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from app.domain.datasets.columns import Columns
from app.domain.datasets.problem import Severity, severity_of
from app.domain.datasets.report import DatasetState
from app.openai.base_schema import unix
from app.openai.files.repository import File
from app.web.api_model import ApiModel

STATUSES: Final[dict[DatasetState, Literal["uploaded", "processed", "error"]]] = {
    DatasetState.uploading: "uploaded",
    DatasetState.inspecting: "uploaded",
    DatasetState.ready: "processed",
    DatasetState.invalid: "error",
}


def _require_fine_tune(purpose: object) -> object:
    if isinstance(purpose, str) and purpose != "fine-tune":
        raise PydanticCustomError(
            "unsupported_purpose", 'Only files to train on are accepted; send the purpose "fine-tune".'
        )
    return purpose


FineTune = Annotated[Literal["fine-tune"], BeforeValidator(_require_fine_tune)]


class ExpiresAfter(ApiModel):
    """When a file is deleted automatically."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class FileIn(ApiModel):
    """A file to upload."""

    model_config = ConfigDict(extra="forbid")

    purpose: FineTune
    expires_after: ExpiresAfter | None = None
    columns: Columns | None = None


class FileObject(ApiModel):
    """A dataset or an output of a job, with the same id as in the native API."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "file-5f0c1d2e3a4b5c6d7e8f9a0b",
                "object": "file",
                "bytes": 48213,
                "created_at": 1767608353,
                "filename": "tickets.jsonl",
                "purpose": "fine-tune",
                "status": "processed",
                "status_details": None,
                "expires_at": None,
            }
        }
    )

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    """Unix time in seconds, like every time here."""
    filename: str
    purpose: Literal["fine-tune", "fine-tune-results"]
    status: Literal["uploaded", "processed", "error"]
    """`uploaded` until a worker has inspected it; `error` if it cannot be trained on."""
    status_details: str | None
    """Why the file cannot be trained on."""
    expires_at: int | None

    @classmethod
    def of(cls, file: File) -> "FileObject":
        return cls(
            id=file.id,
            bytes=file.bytes,
            created_at=unix(file.created_at),
            filename=file.filename,
            purpose=file.purpose,
            status=STATUSES[file.state],
            status_details=_describe_problems(file.id, file.problem_counts, file.first_problem),
            expires_at=unix(file.expires_at),
        )


class FileList(ApiModel):
    """A page of files. `last_id` is the `after` of the next page."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, files: Sequence[File], limit: int) -> "FileList":
        """Build the list from files that were read with `limit + 1`."""
        shown = [FileObject.of(file) for file in files[:limit]]
        ends = (shown[0].id, shown[-1].id) if shown else (None, None)
        return cls(data=shown, first_id=ends[0], last_id=ends[1], has_more=len(files) > limit)


class FileDeleted(ApiModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


def _describe_problems(id: str, counts: dict[str, int] | None, first: dict[str, Any] | None) -> str | None:
    if counts is None:
        return None
    errors = {code: count for code, count in counts.items() if severity_of(code) is Severity.error}
    listed = ", ".join(f"{code} ({count:,})" for code, count in errors.items())
    example = ""
    if first:
        place = f"Line {first['line']}" + (f", {first['pointer']}" if first["pointer"] else "")
        times = f" ({first['count']:,} times)" if first["count"] > 1 else ""
        example = f" {place}{times}: {first['message']}"
    return f"{sum(errors.values()):,} errors: {listed}.{example} GET /datasets/{id}/problems lists them all."
