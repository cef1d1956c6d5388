"""Defines the types of the server's answers. `raw` is the whole answer, including fields that this version does not
know."""

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
    `problems` holds the first problems, `problem_counts` counts all; `statistics` describes the rows. Fields that the
    inspection has not determined yet are None."""

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
    """Represents a problem of a dataset, found `count` times, first on `lines`. `pointer` is a JSON pointer into the
    row at `line`. `severity` is error, which excludes the row from training, or warning."""

    line: int
    pointer: str
    code: str
    severity: str
    message: str
    count: int
    lines: list[int]


@dataclass(frozen=True)
class DatasetCheck(Answer):
    """Represents a dataset check. `state` is pending until a worker has run it, then ready or failed; `failure` holds
    `code` and `message`."""

    id: str
    dataset_id: str
    state: str
    failure: dict[str, str] | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class PreviewSummary(DatasetCheck):
    """Represents a preview in lists. `totals` describe the whole file: rows, tokens, steps and micro-batches."""

    spec: dict[str, Any]
    totals: dict[str, Any] | None


@dataclass(frozen=True)
class Preview(PreviewSummary):
    """Shows a dataset as a model would see it. Each of `rows` has its `line`, its `text` and its `tokens`; each token
    has an `id`, a `text` and whether it is `labelled`."""

    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class OverlapSummary(DatasetCheck):
    """Represents an overlap in lists. `totals` count the rows compared and the equal rows."""

    validation_dataset_id: str
    totals: dict[str, int] | None


@dataclass(frozen=True)
class Overlap(OverlapSummary):
    """Lists the first thousand equal rows of two datasets. Each of `pairs` has a `validation_line`, a `line` of the
    dataset, and whether the texts are identical (`exact`)."""

    pairs: list[dict[str, Any]]


@dataclass(frozen=True)
class Job(Answer):
    """Represents a job. `progress` is between 0 and 1; `failure` holds `reason` and `message`; `waiting_for` says why a
    queued job waits.

    `exact` is False if the job resumed from a checkpoint with a result that may differ from an uninterrupted training;
    `inexact_resumes` says from which `step`, and what `differs`. `resume_from` is the checkpoint of an earlier job from
    which a retry continues.

    `queue_position` counts from 1, over the jobs of all projects. `spec` is the request with defaults filled in: it
    creates the same job again. `resolved` holds the settings that were resolved for each attempt, oldest first."""

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
    waiting_for: str | None
    queue_position: int | None

    @property
    def is_final(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class ValidatedSpec(Answer):
    """Holds a valid spec with its defaults filled in, and what its job would wait for if it were created now."""

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
    """Holds the values that `attempt` measured at one optimizer step, by name. `number` counts the points of an
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
    """Represents a checkpoint. `metrics` holds the values measured at its step; a job's `init_from` accepts its `id` or
    its `name`.

    `size` is the size of all its files; `url` is None if it holds no adapter."""

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
    """Represents an adapter with its files, the tar archive of them all, and how it was trained."""

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
    """Represents a base model of the model registry. `state` is pending, fetching, ready or failed; `failure` then says
    why.

    Jobs can be trained on a model that is ready, with rows of up to `max_seq_len` tokens. `projects` may use it; None
    means all. `hub_name` and `hub_revision` are the hub's name and revision given for a model from a folder; they are
    not checked."""

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
    """Represents a project. At most `max_running_jobs` of its jobs run at once; None means no limit. A worker takes its
    jobs only if, for each key of `allowed_labels`, the worker has one of the values."""

    id: str
    name: str
    max_running_jobs: int | None
    allowed_labels: dict[str, list[str]]
    being_deleted: bool
    created_at: datetime


@dataclass(frozen=True)
class ProjectDeletion(Answer):
    """Counts what was erased of a project so far, under the project's id: rows by table, stored objects and their
    bytes, streams of live metrics, and folders by worker. `state` is stopping, erasing, clearing_workers or
    finished."""

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
    """Represents a webhook. Until `previous_secret_expires_at`, deliveries are also signed with the previous secret. A
    secret is only in `raw["secret"]` of the answer to a creation or a rotation."""

    id: str
    name: str | None
    url: str
    events: list[str]
    enabled: bool
    previous_secret_expires_at: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class Delivery(Answer):
    """Represents the delivery of one event to one webhook. `state` is pending, delivered or failed; `event_id` is the
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
    """Represents a worker. `device` is cuda or cpu, `memory_gb` its memory; `queues` holds training, light or both;
    `integrations` are the trackers that it supports.

    If a job was given, `can_take_job` says whether the worker could take it now, and each of `reasons`, with a `code`
    and a `message`, why not."""

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
    can_take_job: bool | None
    reasons: list[dict[str, str]] | None
    started_at: datetime
    seen_at: datetime


@dataclass(frozen=True)
class About(Answer):
    """Names the server and its version. `links` are paths on the server."""

    name: str
    version: str
    links: dict[str, str]


@dataclass(frozen=True)
class Readiness(Answer):
    """Describes the server's parts. `database` and `redis` are ok or unreachable; `workers` counts online workers by
    queue, and is None without the database."""

    database: str
    redis: str
    workers: dict[str, int] | None


@dataclass(frozen=True)
class Queues(Answer):
    """Counts the waiting work. `training` holds the numbers of `queued` and `running` jobs, `light` the work for light
    workers, and `wakeups` the `count` of unsent messages and the age of the oldest, `oldest_seconds`."""

    training: dict[str, int]
    light: dict[str, int]
    wakeups: dict[str, Any]
