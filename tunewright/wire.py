"""Defines the types of the server's responses. `raw` is the whole JSON object, including fields that this client does
not know."""

import dataclasses
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self


@dataclass(frozen=True)
class Answer:
    raw: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def read(cls, raw: dict[str, Any]) -> Self:
        named = {each.name: read_value(each.name, raw[each.name]) for each in fields(cls) if each.name != "raw"}
        return cls(raw=raw, **named)


def read_value(name: str, value: Any) -> Any:
    """Parse a field's value: names that end in `_at` or `_until` hold times."""
    is_instant = name.endswith(("_at", "_until"))
    return datetime.fromisoformat(value) if is_instant and value is not None else value


@dataclass(frozen=True)
class Dataset(Answer):
    """Represents a dataset. `state` is uploading (its parts are being assembled), inspecting, ready or invalid.
    `problems` contains the first problems, and `problem_counts` counts all of them. `statistics` describes the rows.
    Fields are None until the inspection has determined them."""

    id: str
    filename: str
    state: str
    bytes: int
    sha256: str | None
    format: str | None
    format_reason: str | None
    num_examples: int | None
    num_bad_rows: int | None
    problems: list[dict[str, Any]]
    problem_counts: dict[str, int]
    statistics: dict[str, Any] | None
    columns: dict[str, str] | None
    cleaned_from: str | None
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True)
class Problem(Answer):
    """Represents a problem of a dataset. It occurs `count` times; `lines` are the first of its lines. `pointer` is a
    JSON pointer into the row at `line`. `severity` is error, which excludes the row from training, or warning."""

    line: int
    pointer: str
    code: str
    severity: str
    message: str
    count: int
    lines: list[int]


@dataclass(frozen=True)
class DatasetCheck(Answer):
    """Represents a dataset check. `state` is pending, ready or failed. `failure` has `code` and `message`."""

    id: str
    dataset_id: str
    state: str
    failure: dict[str, str] | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class PreviewSummary(DatasetCheck):
    """Represents a preview in lists. `totals` describes the whole file: rows, tokens, steps and micro-batches."""

    spec: dict[str, Any]
    totals: dict[str, Any] | None


@dataclass(frozen=True)
class Preview(PreviewSummary):
    """Shows a dataset as a model would see it. Each of `rows` has its `line`, its `text` and its `tokens`; each token
    has an `id`, a `text` and whether it is `labelled`."""

    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class OverlapSummary(DatasetCheck):
    """Represents an overlap check in lists. `totals` counts the compared rows and the equal rows."""

    validation_dataset_id: str
    totals: dict[str, int] | None


@dataclass(frozen=True)
class Overlap(OverlapSummary):
    """Lists the first thousand equal rows of two datasets. Each of `pairs` has a `validation_line`, a `line` of the
    dataset, and whether the texts are identical (`exact`)."""

    pairs: list[dict[str, Any]]


@dataclass(frozen=True)
class Job(Answer):
    """Represents a job. `progress` is between 0 and 1. `failure` has `reason` and `message`. `waiting_for` says why
    a queued job waits.

    `exact` is False if the job resumed from a checkpoint and its result may differ from that of an uninterrupted
    training; `inexact_resumes` has the `step` of each such resume and what `differs`. `resume_from` is the checkpoint
    of an earlier job from which a retry continues.

    `queue_position` counts from 1, over the jobs of all projects. `spec` is the request with its defaults filled in; it
    creates the same job again. `resolved` has the settings of each attempt, oldest first. `created_by` is the API key
    that created the job, with `key_id` and `key_name`."""

    id: str
    name: str | None
    state: str
    phase: str | None
    attempt: int
    progress: float
    step: int
    total_steps: int | None
    last_metrics: dict[str, float]
    estimated_finish_at: datetime | None
    base_model: str
    method: str
    spec: dict[str, Any]
    resolved: list[dict[str, Any]]
    failure: dict[str, str] | None
    metadata: dict[str, str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    adapter_id: str | None
    exact: bool
    inexact_resumes: list[dict[str, Any]]
    resume_from: str | None
    retry_of: str | None
    created_by: dict[str, str] | None
    waiting_for: str | None
    queue_position: int | None

    @property
    def is_final(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class ValidatedSpec(Answer):
    """Contains a valid spec with its defaults filled in, and what its job would wait for if it were created now."""

    spec: dict[str, Any]
    waiting_for: str


@dataclass(frozen=True)
class Event(Answer):
    """Represents a past-tense fact about a job. Numbers count from 1 for each job. `level` is info, warn or error."""

    number: int
    type: str
    level: str
    message: str
    data: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class MetricPoint(Answer):
    """Contains the values that `attempt` measured at one optimizer step, by name. `number` counts the points of an
    attempt."""

    attempt: int
    number: int
    step: int
    measured_at: datetime
    values: dict[str, float]


@dataclass(frozen=True)
class Artifact(Answer):
    id: str
    kind: str
    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Checkpoint(Answer):
    """Represents a checkpoint. `metrics` has the values measured at its step. A job's `init_from` accepts its `id` or
    its `name`. `size` is the size of all its files. `url` is None if it contains no adapter."""

    id: str
    job_id: str
    attempt: int
    step: int
    name: str
    metrics: dict[str, float]
    size: int
    url: str | None
    machine_fingerprint: str
    created_at: datetime


@dataclass(frozen=True)
class AdapterFile(Answer):
    """Describes a file of an adapter. `path` is relative to the adapter's folder."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class AdapterSummary(Answer):
    """Represents an adapter in lists."""

    id: str
    name: str
    job_id: str
    base_model: str
    base_model_revision: str | None
    size: int
    created_at: datetime


@dataclass(frozen=True)
class Adapter(AdapterSummary):
    """Represents an adapter with its files, a tar archive of them, and the manifest of its training."""

    files: list[AdapterFile]
    archive: AdapterFile
    manifest: dict[str, Any]

    @classmethod
    def read(cls, raw: dict[str, Any]) -> Self:
        files = [AdapterFile.read(file) for file in raw["files"]]
        adapter = super().read(raw)
        return dataclasses.replace(adapter, files=files, archive=AdapterFile.read(raw["archive"]))


@dataclass(frozen=True)
class ModelSummary(Answer):
    """Represents a base model in the model registry. `state` is pending, fetching, ready or failed; `failure` has
    `code` and `message`.

    Jobs can use a model that is ready, with rows of up to `max_seq_len` tokens. `projects` lists the projects that may
    use it; None means all. `hub_name` and `hub_revision` are the hub name and revision given for a model from a folder;
    they are not verified."""

    name: str
    state: str
    hub: str | None
    revision: str | None
    hub_name: str | None
    hub_revision: str | None
    num_bytes_done: int
    num_bytes: int | None
    failure: dict[str, str] | None
    license: str | None
    architecture: str | None
    num_parameters: int | None
    max_seq_len: int | None
    linear_modules: list[str]
    projects: list[str] | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class Model(ModelSummary):
    license_text: str | None


@dataclass(frozen=True)
class Project(Answer):
    """Represents a project. At most `max_running_jobs` of its jobs run at the same time; None means no limit. A worker
    takes its jobs only if it has one of the values for each key of `allowed_labels`."""

    id: str
    name: str
    max_running_jobs: int | None
    allowed_labels: dict[str, list[str]]
    being_deleted: bool
    created_at: datetime


@dataclass(frozen=True)
class ProjectDeletion(Answer):
    """Represents the deletion of a project; `id` is the project's id. It counts what has been erased so far: rows by
    table, stored objects and their bytes, streams of live metrics, and work folders by worker. `state` is stopping,
    erasing, clearing_workers or finished."""

    id: str
    name: str
    state: str
    num_rows: dict[str, int]
    num_objects: int
    num_bytes: int
    num_live_streams: int
    work_folders: dict[str, int]
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class Webhook(Answer):
    """Represents a webhook. Until `previous_secret_expires_at`, deliveries are also signed with the previous secret.
    Only the response to a creation or a rotation contains the secret, in `raw["secret"]`."""

    id: str
    name: str | None
    url: str
    events: list[str]
    enabled: bool
    previous_secret_expires_at: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class Delivery(Answer):
    """Represents the delivery of one event to one webhook. `state` is pending, delivered or failed. `event_id` is the
    header `webhook-id`."""

    id: str
    webhook_id: str
    event_id: str
    type: str
    state: str
    num_tries: int
    last_status_code: int | None
    last_error: str | None
    next_try_at: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class Worker(Answer):
    """Represents a worker. `device` is cuda or cpu, and `memory_gb` is its memory. `queues` contains training, light or
    both. `integrations` lists the supported trackers. `job_id` is the job that it runs, if it is one of your project.

    For a given job, `can_take_job` is True if the worker could take it now; otherwise each of `reasons` has a `code`
    and a `message`."""

    id: str
    device: str
    device_name: str | None
    num_gpus: int
    memory_gb: float
    free_memory_gb: float | None
    labels: dict[str, str]
    queues: list[str]
    integrations: list[str]
    versions: dict[str, str]
    online: bool
    draining: bool
    disk_full: bool
    busy: bool
    job_id: str | None
    can_take_job: bool | None
    reasons: list[dict[str, str]] | None
    started_at: datetime
    seen_at: datetime


@dataclass(frozen=True)
class About(Answer):
    """Describes the server: its name, its version, and `links`, which are paths on the server."""

    name: str
    version: str
    links: dict[str, str]


@dataclass(frozen=True)
class Readiness(Answer):
    """Describes the server's parts. `database` and `redis` are ok or unreachable. `workers` counts the online workers
    by queue; it is None if the database is unreachable."""

    database: str
    redis: str
    workers: dict[str, int] | None


@dataclass(frozen=True)
class Queues(Answer):
    """Counts the waiting work. `training` counts `queued` and `running` jobs. `light` counts the work for light
    workers. `wakeups` has the `count` of unsent messages, and `oldest_seconds`, the age of the oldest one."""

    training: dict[str, int]
    light: dict[str, int]
    wakeups: dict[str, Any]
