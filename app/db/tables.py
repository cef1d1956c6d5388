"""Every table. Each carries `project_id`, save `projects` itself, `project_deletions`, which outlive them, and
`workers` and `base_models`, which serve all projects."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, PrimaryKeyConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from app.db.base import Base, created, project
from app.db.dataset_check_tables import DatasetCheck as DatasetCheck
from app.db.metric_tables import MetricBucket as MetricBucket
from app.db.metric_tables import MetricValue as MetricValue
from app.db.model_tables import ModelPermission as ModelPermission
from app.db.model_tables import RegisteredModel as RegisteredModel
from app.db.openai_tables import OpenAICreateResponse as OpenAICreateResponse
from app.db.problem_tables import DatasetProblemGroup as DatasetProblemGroup
from app.db.project_tables import ProjectDeletion as ProjectDeletion
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
    """Jobs of its that workers may hold at once; null for any number."""
    allowed_labels: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Its jobs run only on workers whose label of each key here has one of the values listed."""
    created_at: Mapped[datetime] = created()

    __table_args__ = (CheckConstraint("max_running_jobs >= 0", "max_running_jobs"),)


class ApiKey(Base):
    """`sha256` is that of the whole key; the key itself is shown once and kept nowhere."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project()
    name: Mapped[str]
    sha256: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = created()
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    replaced_by: Mapped[str | None]
    """The id of the key that a rotation has made in its place."""


class Dataset(Base):
    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project()
    filename: Mapped[str]
    unsafe_filename: Mapped[bool] = mapped_column(server_default=text("false"))
    """Something that does not print was taken out of it."""
    state: Mapped[str]
    storage_key: Mapped[str]
    size: Mapped[int]
    """Of the bytes as they were sent, as `sha256` is; none yet of a dataset that is still to be made."""
    sha256: Mapped[str]
    """Empty while the dataset is `uploading`: nobody has read it from end to end yet."""
    container: Mapped[str | None]
    compression: Mapped[str | None]
    """As `app.domain.datasets.report.Statistics` has both; null before the inspection."""
    rows_key: Mapped[str | None]
    """Its rows as JSON Lines; null where the upload is that, and then so are size and digest."""
    rows_size: Mapped[int | None]
    rows_sha256: Mapped[str | None]
    hashes_key: Mapped[str | None]
    """What its rows are known by: a file as `worker/inspection/duplicates.py` lays it out."""
    cleaned_from: Mapped[str | None]
    """Id of the dataset whose good rows it holds, or will hold; that one may have been deleted since."""
    drops_duplicates: Mapped[bool] = mapped_column(server_default=text("false"))
    format: Mapped[str | None]
    """As found by the inspection, or as named before it."""
    columns: Mapped[dict[str, Any] | None]
    """By the field that is read, the file's own name of it, as its sender said."""
    num_examples: Mapped[int | None]
    report: Mapped[dict[str, Any] | None]
    """What the inspection found: `app.domain.datasets.report.Report`."""
    bad_share: Mapped[float | None]
    """Share of its rows that a job must leave out; null before the inspection, and where that is no way out."""
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    """The fence: number of the latest inspection."""
    inspecting_until: Mapped[datetime | None]
    """Lease of the light worker that inspects it, or did when `worker_id` was written."""
    worker_id: Mapped[str | None]
    created_at: Mapped[datetime] = created()
    expires_at: Mapped[datetime | None]
    """From then on the collector deletes it, once no unfinished job uses it; null is never."""

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
    """One thing wrong with a dataset, of those that are kept; `number` counts them by line."""

    __tablename__ = "dataset_problems"

    project_id: Mapped[str] = project()
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    number: Mapped[int]
    line: Mapped[int]
    pointer: Mapped[str]
    code: Mapped[str]
    severity: Mapped[str]
    message: Mapped[str]

    __table_args__ = (PrimaryKeyConstraint("dataset_id", "number"),)


class DatasetUse(Base):
    """What a job uses of a dataset, so that a deletion can be refused and name the job. `max_bad_share` is the largest
    share of its rows that the job may leave out."""

    __tablename__ = "dataset_uses"

    project_id: Mapped[str] = project()
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    role: Mapped[str]
    """`training` or `validation`."""
    active: Mapped[bool] = mapped_column(server_default=text("true"))  # until the job is final: it may still read it
    max_bad_share: Mapped[float] = mapped_column(server_default=text("0"))

    __table_args__ = (PrimaryKeyConstraint("dataset_id", "job_id", "role"), Index(None, "job_id"))


class Job(Base):
    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project()
    name: Mapped[str | None]
    state: Mapped[str]
    phase: Mapped[str | None]
    priority: Mapped[int]
    base_model: Mapped[str]
    method: Mapped[str]
    spec: Mapped[dict[str, Any]]
    """The JobSpec as it was sent, every default filled in. What is `auto` stays so."""
    # "metadata" is SQLAlchemy's own attribute of every mapped class.
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    min_memory_gb: Mapped[float]
    device: Mapped[str]
    gpu: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Names of GPUs, parts of names too, one of which the worker's must match; empty for any."""
    labels: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Labels that the worker must carry, all of them."""

    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    """The fence: number of the latest attempt."""
    claim_token: Mapped[str | None]
    worker_id: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    """Set while an attempt holds the job: in the held states, and in others while it yields."""
    lease_expired: Mapped[bool] = mapped_column(server_default=text("false"))
    """Queued by a lapsed lease, so that the claim's token may take the attempt up again."""
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
    created_at: Mapped[datetime] = created()
    queued_at: Mapped[datetime] = created()
    """When it was queued last, and nothing held it any more."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    retry_of: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    init_from_id: Mapped[str | None]
    """Id of the adapter or checkpoint that `init_from` names. Such a checkpoint stays until the job is final."""
    resume_from: Mapped[str | None]
    """Id of the checkpoint of an earlier job that a retry goes on from, until it has one. It stays until the job is
    final."""
    resume_machine: Mapped[str | None]
    """Fingerprint of the machine on which the next attempt resumes exactly; null where it makes no difference."""
    inexact_resumes: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'"))
    """`app.domain.jobs.resuming.InexactResume` each, of the way that the training has come."""

    __table_args__ = (
        Index("ix_jobs_page", "project_id", "created_at", "id"),
        Index("ix_jobs_state", "project_id", "state", "created_at", "id"),
        Index("ix_jobs_base_model", "project_id", "base_model", "created_at", "id"),
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
    """One execution of a job on one worker."""

    __tablename__ = "attempts"

    project_id: Mapped[str] = project()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    number: Mapped[int]
    worker_id: Mapped[str]
    claim_token: Mapped[str] = mapped_column(deferred=True)
    """Its worker's; by it the points that the worker left on a disk are known."""
    started_at: Mapped[datetime] = created()
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    """succeeded, failed, cancelled, paused, released or lost."""
    start_step: Mapped[int | None]
    """Step it went on from; null until its process has said so."""
    resolved: Mapped[dict[str, Any] | None]
    """What `auto` came to for it, and what else was decided; null until its process has said so."""
    log_tail: Mapped[str] = mapped_column(server_default=text("''"))
    orphans_collected_at: Mapped[datetime | None]
    """When its folder in storage was searched for bytes that no row names; once is enough, since it has ended."""

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

    project_id: Mapped[str] = project()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    number: Mapped[int]
    type: Mapped[str]
    level: Mapped[str]
    message: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = created()

    __table_args__ = (PrimaryKeyConstraint("job_id", "number"),)


class Checkpoint(Base):
    __tablename__ = "checkpoints"

    project_id: Mapped[str] = project()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    step: Mapped[int]
    files: Mapped[list[dict[str, Any]]]
    """`app.domain.artifact.StoredFile` each."""
    id: Mapped[str] = mapped_column(default=lambda: new_id("ftckpt"))
    base_model_revision: Mapped[str]
    """Of the weights under training."""
    machine_fingerprint: Mapped[str]
    """Of the machine on which it resumes exactly."""
    created_at: Mapped[datetime] = created()

    __table_args__ = (PrimaryKeyConstraint("job_id", "attempt", "step"), Index("uq_checkpoints_id", "id", unique=True))


class Adapter(Base):
    __tablename__ = "adapters"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), unique=True)
    name: Mapped[str]
    base_model: Mapped[str]
    manifest: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = created()

    __table_args__ = (
        Index("ix_adapters_page", "project_id", "created_at", "id"),
        Index("ix_adapters_base_model", "project_id", "base_model", "created_at", "id"),
    )


class Artifact(Base):
    __tablename__ = "artifacts"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = project()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    adapter_id: Mapped[str | None] = mapped_column(ForeignKey("adapters.id", ondelete="CASCADE"))
    kind: Mapped[str]
    path: Mapped[str]
    storage_key: Mapped[str]
    size: Mapped[int]
    sha256: Mapped[str]
    created_at: Mapped[datetime] = created()

    __table_args__ = (
        Index("uq_artifacts_job_id_path", "job_id", "path", unique=True),
        Index("ix_artifacts_page", "project_id", "created_at", "id"),
        Index(None, "adapter_id"),
        Index(None, "storage_key"),
    )


class OutboxRow(Base):
    """A wake-up, written in the transaction that made the work; relayed to Celery, then deleted."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    project_id: Mapped[str] = project()
    queue: Mapped[str]
    task: Mapped[str]
    created_at: Mapped[datetime] = created()


class KeptAnswer(Base):
    """How a POST with an `Idempotency-Key` was answered, so that the same request is answered alike."""

    __tablename__ = "idempotency_keys"

    project_id: Mapped[str] = project()
    key: Mapped[str]
    request_sha256: Mapped[str]
    """Of method, path and body."""
    status: Mapped[int]
    location: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[datetime] = created()

    __table_args__ = (PrimaryKeyConstraint("project_id", "key"), Index(None, "created_at"))


class DeletedObject(Base):
    """Bytes that no row names any more, or never did; the collector removes them from storage."""

    __tablename__ = "deleted_objects"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    project_id: Mapped[str] = project()
    storage_key: Mapped[str]
    created_at: Mapped[datetime] = created()
    due_at: Mapped[datetime] = created()
    """Not removed before then."""

    __table_args__ = (Index(None, "due_at"), Index(None, "storage_key"))
