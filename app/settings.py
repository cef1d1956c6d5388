"""Reads the operator's environment once. `docs/settings.md` describes every field."""

import os
import re
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import NamedTuple, Self

from platformdirs import user_cache_path, user_data_path
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.labels import read_labels

CENTURY_SECONDS = 100 * 365 * 24 * 3600
"""Limits lifetimes to a century, because PostgreSQL's calendar ends."""


HOST = re.compile(r"(?=.*[a-z][^.]*\Z)[a-z0-9_.-]{1,253}")


class Allowed(NamedTuple):
    """Lists targets that webhooks may use although they are not public."""

    hosts: frozenset[str]
    networks: tuple[IPv4Network | IPv6Network, ...]

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse the list. Raise ValueError for a word that is neither a host's name nor a network."""
        words = [word.strip().lower() for word in text.split(",") if word.strip()]
        hosts = [word for word in words if HOST.fullmatch(word) and "/" not in word]
        return cls(frozenset(hosts), tuple(ip_network(word) for word in words if word not in hosts))


def default_data_dir() -> Path:
    return Path("/var/lib/tunewright") if os.geteuid() == 0 else user_data_path("tunewright")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="TUNEWRIGHT_", frozen=True, use_attribute_docstrings=True)

    data_dir: Path = Field(default_factory=default_data_dir)
    """Folder of the local stack: embedded servers, storage, logs, the first key."""
    cache_dir: Path = Field(default_factory=lambda: user_cache_path("tunewright"))
    """Folder of files that can be rebuilt: converted models, quantized weights."""
    database_url: str = Field(default="postgresql+psycopg://localhost/tunewright", validation_alias="DATABASE_URL")
    """SQLAlchemy URL of PostgreSQL 15 or later, with the psycopg driver."""
    redis_url: str = Field(default="redis://localhost:6379/0", validation_alias="REDIS_URL")
    """URL of Redis 7 or Valkey: `redis://`, `rediss://` or `unix://`."""
    storage_url: str | None = Field(default=None, validation_alias="STORAGE_URL")
    """URL of the storage: `file://`, `s3://`, `gs://`, `az://` or `memory://`; default: a folder in `data_dir`."""
    host: str = "127.0.0.1"
    """Address that the API listens on."""
    port: int = Field(default=8400, ge=0, le=65535)
    """Port that the API listens on; 0 selects a free one."""
    max_upload_bytes: int = Field(default=10 * 10**9, gt=0)
    """Maximum size of a dataset, in bytes."""
    max_body_bytes: int = Field(default=2**20, gt=0)
    """Maximum size of a JSON body, in bytes."""
    lease_seconds: float = Field(default=60, gt=0)
    """Time without heartbeats after which a worker loses its job; an inspection's lease grows with its size."""
    heartbeat_seconds: float = Field(default=10, gt=0)
    """Interval of a worker's heartbeats."""
    recovery_seconds: float = Field(default=5, gt=0)
    """Interval at which the dispatcher checks for lost work."""
    poll_seconds: float = Field(default=5, gt=0)
    """Interval at which a worker checks for work that no wake-up announced."""
    exact_resume_wait_seconds: float = Field(default=60, ge=0)
    """How long a job waits for a worker on which it resumes exactly, before another may claim it."""
    stop_timeout_seconds: float = Field(default=3, gt=0)
    """Time for a training process to stop after a request, before it is killed."""
    drain_timeout_seconds: float = Field(default=30, gt=0)
    """Time for a training process to save a checkpoint when its worker is asked to stop."""
    stall_timeout_seconds: float = Field(default=1800, gt=0)
    """Time without progress (no micro-batch, row or layer) after which a training process is ended."""
    training_threads: int | None = Field(default=None, ge=1)
    """CPU threads of a training process; default: all."""
    standby_process: bool = True
    """Whether to keep an idle training process with the last model's tokenizer loaded, so that jobs start sooner."""
    worker_labels: str | None = None
    """Labels of this worker, such as `pool=a,gpu=4090`, by which jobs and projects select workers."""

    upload_ttl_seconds: float = Field(default=24 * 3600, gt=0, le=CENTURY_SECONDS)
    """Time within which an upload by parts must be completed; its parts are removed afterwards."""
    orphan_ttl_seconds: float = Field(default=24 * 3600, gt=0, le=CENTURY_SECONDS)
    """Age at which stored bytes that no row names are removed, if their writer ended as long ago."""
    checkpoint_ttl_seconds: float = Field(default=7 * 24 * 3600, ge=0, le=CENTURY_SECONDS)
    """How long a job's checkpoints are kept after it finishes."""
    dataset_ttl_seconds: float | None = Field(default=None, gt=0, le=CENTURY_SECONDS)
    """Default time after which a dataset expires; default: never."""

    model_roots: str | None = None
    """Folders, separated by commas, from which models may be added over HTTP; default: none."""
    model_cache_gb: float | None = Field(default=None, gt=0)
    """Maximum size of the base models in `cache_dir`, in GB; default: limited only by the disk."""

    webhook_allowlist: str | None = None
    """Hosts and networks, separated by commas, that webhooks may use although they are not public."""
    webhook_timeout_seconds: float = Field(default=10, gt=0, le=600)
    """Time within which a webhook's receiver must respond."""

    @field_validator("webhook_allowlist")
    @classmethod
    def _is_readable(cls, text: str | None) -> str | None:
        Allowed.read(text or "")
        return text

    @field_validator("worker_labels")
    @classmethod
    def _are_labels(cls, text: str | None) -> str | None:
        read_labels(text or "")
        return text

    @property
    def labels(self) -> dict[str, str]:
        return read_labels(self.worker_labels or "")

    @property
    def webhook_allowed(self) -> Allowed:
        return Allowed.read(self.webhook_allowlist or "")

    @property
    def allowed_model_roots(self) -> tuple[Path, ...]:
        return tuple(Path(word.strip()).absolute() for word in (self.model_roots or "").split(",") if word.strip())

    @property
    def storage(self) -> str:
        return self.storage_url or f"file://{self.data_dir.absolute()}/storage"

    @property
    def work_dir(self) -> Path:
        """Return the folder where running attempts keep their files."""
        return self.data_dir.absolute() / "work"

    @property
    def broker_url(self) -> str:
        """Return `redis_url` in Celery's format."""
        return self.redis_url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)


@cache
def get_settings() -> Settings:
    return Settings()
