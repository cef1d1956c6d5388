"""Defines every table. Each has `project_id`, except `projects` itself, `project_deletions`, which outlive them, and
`workers`, `base_models` and `installation`, which serve all projects.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, PrimaryKeyConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from app.db.base import Base, created_at_column, project_id_column
from app.db.dataset_tables import DatasetCheck as DatasetCheck
from app.db.dataset_tables import DatasetProblemGroup as DatasetProblemGroup
from app.db.metric_tables import MetricBucket as MetricBucket
from app.db.metric_tables import MetricValue as MetricValue
from app.db.model_tables import ModelPermission as ModelPermission
from app.db.model_tables import RegisteredModel as RegisteredModel
from app.db.openai_tables import OpenAICreateResponse as OpenAICreateResponse
from app.db.project_tables import ProjectDeletion as ProjectDeletion
from app.db.session_tables import BrowserSession as BrowserSession
from app.db.session_tables import Installation as Installation
from app.db.upload_tables import Upload as Upload
from app.db.upload_tables import UploadPart as UploadPart
from app.db.webhook_tables import Webhook as Webhook
from app.db.webhook_tables import WebhookDelivery as WebhookDelivery
from app.db.worker_tables import Worker as Worker
from app.domain.ids import new_id


class Project(Base):
    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    max_running_jobs: Mapped[int | None]
    """Limits the project's jobs that workers may hold at once. Null for no limit."""
    allowed_labels: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Lists allowed values by label key. The project's jobs run only on workers whose labels have one of these values
    for each key."""
    created_at: Mapped[datetime] = created_at_column()

    __table_args__ = (CheckConstraint("max_running_jobs >= 0", "max_running_jobs"),)


class ApiKey(Base):
    """Stores an API key. `sha256` is the digest of the whole key; the key itself is shown once and stored nowhere."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project_id_column()
    name: Mapped[str]
    sha256: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = created_at_column()
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    replaced_by: Mapped[str | None]
    """Is the id of the key that replaced it in a rotation."""


class Dataset(Base):
    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project_id_column()
    filename: Mapped[str]
    unsafe_filename: Mapped[bool] = mapped_column(server_default=text("false"))
    """Says that characters which do not print were removed from the name."""
    state: Mapped[str]
    storage_key: Mapped[str]
    size: Mapped[int]
    """Is the size of the bytes as they were sent, to which `sha256` applies too. It is 0 while the dataset is not made
    yet."""
    sha256: Mapped[str]
    """Is empty while the dataset is `uploading`: the file has not been read from end to end yet."""
    container: Mapped[str | None]
    compression: Mapped[str | None]
    """Has the value of `app.domain.datasets.report.Statistics`, as `container` does. Both are null before the
    inspection."""
    rows_key: Mapped[str | None]
    """Is the key of the rows as JSON Lines. Null if the upload itself is that; size and digest are then null too."""
    rows_size: Mapped[int | None]
    rows_sha256: Mapped[str | None]
    hashes_key: Mapped[str | None]
    """Is the key of a file with the rows' hashes, in the format of `worker/inspection/duplicates.py`."""
    cleaned_from: Mapped[str | None]
    """Is the id of the dataset whose good rows it holds, or will hold. That dataset may have been deleted since."""
    drops_duplicates: Mapped[bool] = mapped_column(server_default=text("false"))
    format: Mapped[str | None]
    """Is the format that the inspection found, or the sender named before it."""
    columns: Mapped[dict[str, Any] | None]
    """Maps the field that is read to the file's name for it, as the sender set it."""
    num_examples: Mapped[int | None]
    report: Mapped[dict[str, Any] | None]
    """Holds the result of the inspection: `app.domain.datasets.report.Report`."""
    bad_share: Mapped[float | None]
    """Is the share of its rows that a job must leave out. Null before the inspection, and where leaving rows out does
    not help."""
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    """Is the fence: the number of the latest inspection."""
    inspecting_until: Mapped[datetime | None]
    """Is the lease of the light worker that inspects it, or did when `worker_id` was written."""
    worker_id: Mapped[str | None]
    created_at: Mapped[datetime] = created_at_column()
    expires_at: Mapped[datetime | None]
    """Is the time from which the collector deletes it, once no unfinished job uses it. Null for never."""

    __table_args__ = (
        Index("ix_datasets_page", "project_id", "created_at", "id"),
        Index(None, "storage_key"),
        Index(None, "rows_key", postgresql_where=text("rows_key IS NOT NULL")),
        Index(None, "hashes_key", postgresql_where=text("hashes_key IS NOT NULL")),
        Index("ix_datasets_inspecting", "created_at", postgresql_where=text("state = 'inspecting'")),
        Index("ix_datasets_worker", "worker_id", postgresql_where=text("inspecting_until IS NOT NULL")),
        Index("ix_datasets_expiry", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )


class DatasetProblem(Base):
    """Stores one problem of a dataset, of those that are kept. `number` counts them by line."""

    __tablename__ = "dataset_problems"

    project_id: Mapped[str] = project_id_column()
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    number: Mapped[int]
    line: Mapped[int]
    pointer: Mapped[str]
    code: Mapped[str]
    severity: Mapped[str]
    message: Mapped[str]

    __table_args__ = (PrimaryKeyConstraint("dataset_id", "number"),)


class DatasetUse(Base):
    """Records a job's use of a dataset, so that a deletion can be refused with the job's id. `max_bad_share` is the
    largest share of its rows that the job may leave out."""

    __tablename__ = "dataset_uses"

    project_id: Mapped[str] = project_id_column()
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    role: Mapped[str]
    """Is `training` or `validation`."""
    active: Mapped[bool] = mapped_column(server_default=text("true"))  # until the job is final: it may still read it
    max_bad_share: Mapped[float] = mapped_column(server_default=text("0"))

    __table_args__ = (PrimaryKeyConstraint("dataset_id", "job_id", "role"), Index(None, "job_id"))


class Job(Base):
    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project_id_column()
    name: Mapped[str | None]
    state: Mapped[str]
    phase: Mapped[str | None]
    priority: Mapped[int]
    base_model: Mapped[str]
    method: Mapped[str]
    spec: Mapped[dict[str, Any]]
    """Holds the JobSpec as it was sent, with every default filled in. `auto` values stay `auto`."""
    # SQLAlchemy reserves the attribute "metadata" of every mapped class.
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    min_memory_gb: Mapped[float]
    device: Mapped[str]
    gpu: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Lists names of GPUs, or parts of names, of which the worker's must match one. Empty for any."""
    labels: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Lists labels that the worker must carry, all of them."""

    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    """Is the fence: the number of the latest attempt."""
    claim_token: Mapped[str | None]
    worker_id: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    """Is set while an attempt holds the job: in the held states, and in others while it yields."""
    lease_expired: Mapped[bool] = mapped_column(server_default=text("false"))
    """Says that an expired lease queued the job, so that the claim's token may continue the attempt."""
    failed_attempts: Mapped[int] = mapped_column(server_default=text("0"))
    lost_attempts: Mapped[int] = mapped_column(server_default=text("0"))
    lost_attempts_without_progress: Mapped[int] = mapped_column(server_default=text("0"))

    step: Mapped[int] = mapped_column(server_default=text("0"))
    total_steps: Mapped[int | None]
    last_metrics: Mapped[dict[str, Any] | None]
    estimated_finish_at: Mapped[datetime | None]
    failure_reason: Mapped[str | None]
    failure_message: Mapped[str | None]
    last_event_number: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = created_at_column()
    queued_at: Mapped[datetime] = created_at_column()
    """Is the time at which it was last queued and no attempt held it."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    retry_of: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    created_by_key_id: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id", ondelete="SET NULL"))
    created_by_name: Mapped[str | None]
    """Is the key's name, which never changes: no poll has to join the keys."""
    init_from_id: Mapped[str | None]
    """Is the id of the adapter or checkpoint that `init_from` names. Such a checkpoint is kept until the job is
    final."""
    resume_from: Mapped[str | None]
    """Is the id of an earlier job's checkpoint from which a retry resumes, until it has one itself. The checkpoint is
    kept until the job is final."""
    resume_machine: Mapped[str | None]
    """Is the fingerprint of the machine on which the next attempt resumes exactly. Null where it makes no
    difference."""
    inexact_resumes: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'"))
    """Lists each `app.domain.jobs.resuming.InexactResume` of the training so far."""

    __table_args__ = (
        Index("ix_jobs_page", "project_id", "created_at", "id"),
        Index("ix_jobs_state", "project_id", "state", "created_at", "id"),
        Index("ix_jobs_base_model", "project_id", "base_model", "created_at", "id"),
        Index("ix_jobs_created_by", "created_by_key_id", "created_at", "id"),
        Index("ix_jobs_whole_models", "project_id", "finished_at", "id", postgresql_where=text("method = 'full'")),
        Index("ix_jobs_finished", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
        Index("ix_jobs_queue", text("priority DESC"), "created_at", "id", postgresql_where=text("state = 'queued'")),
        Index("ix_jobs_lease", "lease_until", postgresql_where=text("lease_until IS NOT NULL")),
        Index(None, "retry_of", postgresql_where=text("retry_of IS NOT NULL")),
        Index("ix_jobs_metadata", "metadata", postgresql_using="gin"),
        Index(None, "init_from_id", postgresql_where=text("init_from_id IS NOT NULL")),
        Index(None, "resume_from", postgresql_where=text("resume_from IS NOT NULL")),
        Index("ix_jobs_id_end", "project_id", func.right(text("id"), 8)),
    )


class Attempt(Base):
    """Records one execution of a job on one worker."""

    __tablename__ = "attempts"

    project_id: Mapped[str] = project_id_column()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    number: Mapped[int]
    worker_id: Mapped[str]
    claim_token: Mapped[str] = mapped_column(deferred=True)
    """Is the worker's token. It identifies the points that the worker left on a disk."""
    started_at: Mapped[datetime] = created_at_column()
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    """Is succeeded, failed, cancelled, paused, released or lost."""
    start_step: Mapped[int | None]
    """Is the step that it resumed from. Null until its process has reported it."""
    resolved: Mapped[dict[str, Any] | None]
    """Holds what `auto` resolved to, and other decisions. Null until its process has reported them."""
    log_tail: Mapped[str] = mapped_column(server_default=text("''"))
    orphans_collected_at: Mapped[datetime | None]
    """Is the time at which its storage folder was searched for bytes that no row names. Once is enough, since it has
    ended."""

    __table_args__ = (
        PrimaryKeyConstraint("job_id", "number"),
        Index(
            "ix_attempts_uncollected",
            "ended_at",
            postgresql_where=text("orphans_collected_at IS NULL AND ended_at IS NOT NULL"),
        ),
    )


class JobEvent(Base):
    __tablename__ = "job_events"

    project_id: Mapped[str] = project_id_column()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    number: Mapped[int]
    type: Mapped[str]
    level: Mapped[str]
    message: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = created_at_column()

    __table_args__ = (PrimaryKeyConstraint("job_id", "number"),)


class Checkpoint(Base):
    __tablename__ = "checkpoints"

    project_id: Mapped[str] = project_id_column()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    step: Mapped[int]
    files: Mapped[list[dict[str, Any]]]
    """Lists each `app.domain.artifact.StoredFile`."""
    id: Mapped[str] = mapped_column(default=lambda: new_id("ftckpt"))
    base_model_revision: Mapped[str]
    """Is the revision of the weights under training."""
    machine_fingerprint: Mapped[str]
    """Is the fingerprint of the machine on which it resumes exactly."""
    created_at: Mapped[datetime] = created_at_column()

    __table_args__ = (PrimaryKeyConstraint("job_id", "attempt", "step"), Index("uq_checkpoints_id", "id", unique=True))


class Adapter(Base):
    __tablename__ = "adapters"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project_id_column()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), unique=True)
    name: Mapped[str]
    base_model: Mapped[str]
    manifest: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = created_at_column()

    __table_args__ = (
        Index("ix_adapters_page", "project_id", "created_at", "id"),
        Index("ix_adapters_base_model", "project_id", "base_model", "created_at", "id"),
    )


class Artifact(Base):
    __tablename__ = "artifacts"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project_id_column()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    adapter_id: Mapped[str | None] = mapped_column(ForeignKey("adapters.id", ondelete="CASCADE"))
    kind: Mapped[str]
    path: Mapped[str]
    storage_key: Mapped[str]
    size: Mapped[int]
    sha256: Mapped[str]
    created_at: Mapped[datetime] = created_at_column()

    __table_args__ = (
        Index("uq_artifacts_job_id_path", "job_id", "path", unique=True),
        Index("ix_artifacts_page", "project_id", "created_at", "id"),
        Index(None, "adapter_id"),
        Index(None, "storage_key"),
    )


class OutboxRow(Base):
    """Stores a wake-up, written in the transaction that created the work, relayed to Celery and then deleted."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    project_id: Mapped[str] = project_id_column()
    queue: Mapped[str]
    task: Mapped[str]
    created_at: Mapped[datetime] = created_at_column()


class KeptAnswer(Base):
    """Stores the answer to a POST with an `Idempotency-Key`, so that the same request gets the same answer."""

    __tablename__ = "idempotency_keys"

    project_id: Mapped[str] = project_id_column()
    key: Mapped[str]
    request_sha256: Mapped[str]
    """Is the digest of method, path and body."""
    status: Mapped[int]
    location: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[datetime] = created_at_column()

    __table_args__ = (PrimaryKeyConstraint("project_id", "key"), Index(None, "created_at"))


class DeletedJob(Base):
    """Records for a while that a job was deleted, so that streams of its project can report it."""

    __tablename__ = "deleted_jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project_id_column()
    deleted_at: Mapped[datetime] = created_at_column()

    __table_args__ = (Index("ix_deleted_jobs_recent", "project_id", "deleted_at"),)


class DeletedObject(Base):
    """Records bytes that no row names any more, or never did. The collector removes them from storage."""

    __tablename__ = "deleted_objects"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    project_id: Mapped[str] = project_id_column()
    storage_key: Mapped[str]
    created_at: Mapped[datetime] = created_at_column()
    due_at: Mapped[datetime] = created_at_column()
    """Is the earliest time of the removal."""

    __table_args__ = (Index(None, "due_at"), Index(None, "storage_key"))
