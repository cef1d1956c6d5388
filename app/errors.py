"""Defines the errors of requests, each with its HTTP status and a stable code.

TunewrightError
├── Unauthorized 401, Forbidden 403, OriginMismatch 403
├── NotFound 404
│   └── DatasetNotFound, PreviewNotFound, OverlapNotFound, UploadNotFound, JobNotFound, CheckpointNotFound,
│       ArtifactNotFound, AdapterNotFound, ModelNotFound, FileNotFound, WebhookNotFound, DeliveryNotFound,
│       ProjectNotFound, ProjectDeletionNotFound, KeyNotFound, PageOutdated
├── Conflict 409
│   └── JobFinished, JobNotFinished, NoCheckpoint, JobAlreadyCancelling, JobAlreadyPaused, JobNotPaused, DatasetInUse,
│       FileBelongsToJob, DatasetNotInspected, NoValidRows, ModelAlreadyExists, ModelInUse, ModelNotReady,
│       RequestInProgress, DatasetUploading, UploadNotPending, CheckpointInUse, CheckpointWithoutAdapter, AmbiguousName,
│       TooManyWebhooks, DeliveryPending, WebhookDisabled, ProjectAlreadyExists, ProjectBeingDeleted, LastProject,
│       OwnProject, KeyNotActive, KeyReplaced, OwnKey
├── BadRequest 400
│   └── InvalidCursor, InvalidJson, InvalidMultipart, NotDeletable, InvalidModelFolder, InvalidDigest, DigestMismatch,
│       InvalidHubName
├── TooLarge 413, UnsupportedMediaType 415, RangeNotSatisfiable 416
├── InvalidSpec 422 (every bad field at once), InvalidWebhook 422, IdempotencyKeyReused 422, InvalidUploadParts 422
├── Busy 503
│   └── TooManyWaiting, TooManyLookups
└── StorageFull 507, HeadersTooLarge 431
The `errors` modules of models, projects, keys, webhooks and web define the errors of their folders.
StaleAttempt is not an error of a user: it informs a worker that it no longer holds the job.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple


class FieldError(NamedTuple):
    """Describes one invalid field: RFC 6901 pointer into the body, stable code, message."""

    pointer: str
    code: str
    message: str


class TunewrightError(Exception):
    """The message is the sentence that a user reads. It says what happened and what to do."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    errors: tuple[FieldError, ...] = ()

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else (self.__doc__ or "").strip()


class Unauthorized(TunewrightError):
    """The API key is missing or invalid; send `Authorization: Bearer <key>`."""

    status, code = 401, "unauthorized"


class Forbidden(TunewrightError):
    """This API key can only read; use one with the scope `write`."""

    status, code = 403, "forbidden"


class NotFound(TunewrightError):
    """Nothing was found at this path; see /docs for the routes."""

    status, code = 404, "not_found"
    noun: ClassVar[str] = "thing"
    listing: ClassVar[str] = "/docs"

    def __init__(self, id: str | None = None) -> None:
        self.id = id
        message = [] if id is None else [f"No {self.noun} has the id {id!r:.120}; GET {self.listing} lists them."]
        super().__init__(*message)


class DatasetNotFound(NotFound):
    code, noun, listing = "dataset_not_found", "dataset", "/datasets"


class PreviewNotFound(NotFound):
    code, noun, listing = "preview_not_found", "preview", "/datasets/{id}/previews"


class OverlapNotFound(NotFound):
    code, noun, listing = "overlap_not_found", "overlap", "/datasets/{id}/overlaps"


class UploadNotFound(NotFound):
    code, noun, listing = "upload_not_found", "upload", "/uploads"


class JobNotFound(NotFound):
    code, noun, listing = "job_not_found", "job", "/jobs"


class CheckpointNotFound(NotFound):
    code, noun, listing = "checkpoint_not_found", "checkpoint", "/jobs/{id}/checkpoints"


class ArtifactNotFound(NotFound):
    code, noun, listing = "artifact_not_found", "artifact", "/jobs/{id}/artifacts"


class AdapterNotFound(NotFound):
    code, noun, listing = "adapter_not_found", "adapter", "/adapters"


class ModelNotFound(NotFound):
    code, noun, listing = "model_not_found", "model", "/models"


class FileNotFound(NotFound):
    code, noun, listing = "file_not_found", "file", "/v1/files"


class Conflict(TunewrightError):
    status, code = 409, "conflict"
    passes: ClassVar[bool] = False
    """Is true if a repetition of the request may succeed after a moment."""


class JobFinished(Conflict):
    code = "job_finished"

    def __init__(self, id: str, state: str) -> None:
        self.id, self.state = id, state
        super().__init__(f"Job {id} has finished ({state}) and cannot change. Retry it as a new job.")


class NoCheckpoint(Conflict):
    code = "no_checkpoint"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f'Job {id} has no checkpoint to resume from; retry it from "start".')


class JobNotFinished(Conflict):
    code = "job_not_finished"

    def __init__(self, id: str, state: str) -> None:
        self.id, self.state = id, state
        super().__init__(f"Job {id} is {state}; wait until it finishes, or cancel it.")


class JobAlreadyCancelling(Conflict):
    code = "job_already_cancelling"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"Job {id} is already being cancelled; wait until it finishes.")


class JobAlreadyPaused(Conflict):
    code = "job_already_paused"

    def __init__(self, id: str, state: str) -> None:
        self.id, self.state = id, state
        super().__init__(f"Job {id} is already {state}; resume it to continue.")


class JobNotPaused(Conflict):
    code = "job_not_paused"

    def __init__(self, id: str, state: str) -> None:
        self.id, self.state = id, state
        super().__init__(f"Job {id} is {state}; only a paused job can be resumed.")


class DatasetInUse(Conflict):
    code = "dataset_in_use"

    def __init__(self, id: str, job_ids: list[str]) -> None:
        self.id, self.job_ids = id, job_ids
        super().__init__(f"Dataset {id} is used by {', '.join(job_ids)}; wait until they finish, or cancel them.")


class CheckpointInUse(Conflict):
    code = "checkpoint_in_use"

    def __init__(self, id: str, job_id: str) -> None:
        self.id, self.job_id = id, job_id
        super().__init__(f"Job {job_id} starts from checkpoint {id}; wait until it finishes, or cancel it.")


class CheckpointWithoutAdapter(Conflict):
    code = "checkpoint_without_adapter"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(
            f"Checkpoint {id} has no adapter: its job fine-tunes the full model. Download the job's result after it "
            "succeeds."
        )


class AmbiguousName(Conflict):
    code = "ambiguous_name"

    def __init__(self, name: str, job_ids: list[str]) -> None:
        self.name, self.job_ids = name, job_ids
        super().__init__(f"{name!r:.300} matches results of {', '.join(job_ids)}; use an id instead.")


class FileBelongsToJob(Conflict):
    code = "file_belongs_to_job"

    def __init__(self, id: str, job_id: str) -> None:
        self.id, self.job_id = id, job_id
        super().__init__(f"File {id} is a result of {job_id} and is deleted with it; delete the model or the job.")


class DatasetNotInspected(Conflict):
    code = "dataset_not_inspected"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"Dataset {id} has not been inspected yet; wait until it is ready or invalid.")


class NoValidRows(Conflict):
    code = "no_valid_rows"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"Every row of dataset {id} has an error; GET /datasets/{id}/problems lists the problems.")


class DatasetUploading(Conflict):
    code, passes = "dataset_uploading", True

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"The parts of dataset {id} are still being assembled; try again in a moment.")


class UploadNotPending(Conflict):
    code = "upload_not_pending"

    def __init__(self, id: str, state: str) -> None:
        self.id, self.state = id, state
        super().__init__(f"Upload {id} is {state}; create another one with POST /uploads.")


class ModelAlreadyExists(Conflict):
    code = "model_already_exists"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"The registry already has a different model named {name!r}; choose another name.")


class ModelInUse(Conflict):
    code = "model_in_use"

    def __init__(self, name: str, job_ids: Sequence[str]) -> None:
        self.name, self.job_ids = name, job_ids
        super().__init__(f"Model {name} is used by {', '.join(job_ids)}; wait until they finish, or cancel them.")


class ModelNotReady(Conflict):
    code, passes = "model_not_ready", True

    def __init__(self, name: str, state: str) -> None:
        self.name, self.state = name, state
        super().__init__(f"Model {name} is {state}, not ready; GET /models/{name} shows its progress.")


class RequestInProgress(Conflict):
    """A request with this Idempotency-Key is still in progress; send the request again in a moment."""

    code, passes = "request_in_progress", True


class BadRequest(TunewrightError):
    status, code = 400, "bad_request"


class InvalidCursor(BadRequest):
    """The cursor is not valid; send the next_cursor of the previous page unchanged, or request the first page again."""

    code = "invalid_cursor"


class InvalidJson(BadRequest):
    code = "invalid_json"


class InvalidMultipart(BadRequest):
    code = "invalid_multipart"


class NotDeletable(BadRequest):
    code = "not_deletable"

    def __init__(self, id: str, why: str) -> None:
        self.id = id
        super().__init__(f"{id} cannot be deleted here: {why}.")


class InvalidModelFolder(BadRequest):
    code = "invalid_model_folder"


class InvalidDigest(BadRequest):
    """A digest header is malformed; send `Content-Digest: sha-256=:…:` with the SHA-256 in base64, or omit it."""

    code = "invalid_digest"


class DigestMismatch(BadRequest):
    code = "digest_mismatch"

    def __init__(self, found: str, expected: str) -> None:
        self.found, self.expected = found, expected
        super().__init__(f"The body's SHA-256 is {found}, not {expected}; send it again.")


class TooLarge(TunewrightError):
    status, code = 413, "too_large"


class UnsupportedMediaType(TunewrightError):
    status, code = 415, "unsupported_media_type"


class RangeNotSatisfiable(TunewrightError):
    status, code = 416, "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(f"The range is outside the {size:,} stored bytes.")


class InvalidSpec(TunewrightError):
    status, code = 422, "invalid_spec"

    def __init__(self, errors: list[FieldError]) -> None:
        self.errors = tuple(errors)
        places = ", ".join(error.pointer or "the body" for error in errors[:5])
        super().__init__(f"{len(errors)} field{'s' * (len(errors) != 1)} must be changed: {places}.")


class IdempotencyKeyReused(TunewrightError):
    """This Idempotency-Key was used for another request; use a new key for each new request."""

    status, code = 422, "idempotency_key_reused"


class InvalidUploadParts(TunewrightError):
    status, code = 422, "invalid_upload_parts"

    def __init__(self, message: str) -> None:
        self.errors = (FieldError("/part_ids", self.code, message),)
        super().__init__(message)


class Busy(TunewrightError):
    """The server has reached its limit of such requests; send the request again in a few seconds."""

    status, code, retry_after = 503, "busy", 5


class StorageFull(TunewrightError):
    """The server's storage is full; free space, then send the request again."""

    status, code = 507, "storage_full"


class StaleAttempt(Exception):
    """The job has another current attempt: the process that gets this error stops and changes nothing."""
