"""Defines the response bodies for workers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from app.web.api_model import from_row
from app.workers.reasons import Reason
from app.workers.repository import ShownWorker

EXAMPLE: dict[str, Any] = {
    "id": "gpu-1-4711",
    "device": "cuda",
    "device_name": "NVIDIA L4",
    "num_gpus": 1,
    "memory_gb": 24.15,
    "free_memory_gb": 23.62,
    "labels": {"pool": "a"},
    "queues": ["training"],
    "integrations": ["tensorboard", "wandb"],
    "machine_fingerprint": "5d1c0f2e7b9a4860",
    "machine_facts": {"engine": 1, "torch": "2.13.0", "device": "cuda", "threads": 8, "gpu": "NVIDIA L4"},
    "versions": {"python": "3.12.3", "tunewright": "0.1.0", "torch": "2.13.0"},
    "online": True,
    "draining": False,
    "disk_full": False,
    "busy": True,
    "job_id": "ftjob-5f0c1d2e3a4b5c6d7e8f9a0b",
    "can_take_job": None,
    "reasons": None,
    "started_at": "2026-01-05T10:12:13.141593Z",
    "seen_at": "2026-01-05T11:30:02.653589Z",
}


class ReasonOut(BaseModel):
    """Why a worker cannot claim a job now."""

    code: str
    """`offline`, `draining`, `disk_full` or `busy` for a temporary reason; for a lasting one, `no_training_queue`,
    `project_labels`, `labels`, `device`, `gpu`, `memory` or `gpu_preferred`."""
    message: str

    model_config = ConfigDict(use_attribute_docstrings=True)


class WorkerOut(BaseModel):
    """A worker process, which serves all projects."""

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra={"example": EXAMPLE})

    id: str
    """Host name and process id."""
    device: str
    """`cuda` or `cpu`."""
    device_name: str | None
    """The device's product name, which `resources.gpu` of a job is compared with."""
    num_gpus: int
    """Number of GPUs that the worker may use; it trains on the first."""
    memory_gb: float
    """Memory of the GPU, or RAM for the CPU, in GB (10^9 bytes)."""
    free_memory_gb: float | None
    """Memory that was free at the last heartbeat (for a GPU, up to 30 seconds before); null if the driver does not
    report it, as for a part of a GPU."""
    labels: dict[str, str]
    """The worker's `TUNEWRIGHT_WORKER_LABELS`."""
    queues: list[str]
    """`training` for jobs, `light` for inspections."""
    integrations: list[str]
    """Trackers that the worker can send curves to: installed, with credentials."""
    versions: dict[str, str]
    """Versions of the installed packages, by name."""
    machine_fingerprint: str
    """Equal on machines with equal results: a checkpoint resumes exactly on workers with the fingerprint of the worker
    that wrote it."""
    machine_facts: dict[str, Any]
    """Parts of the fingerprint: everything that affects the last bit of a training's numbers."""
    online: bool
    """Whether its last heartbeat is younger than a lease."""
    draining: bool
    """Whether it was asked to stop: it finishes its work and claims no new work."""
    disk_full: bool
    """Whether it has too little disk space: it claims no new work until there is more."""
    busy: bool
    """Whether it holds a job, or a dataset that it inspects or assembles, of any project."""
    job_id: str | None
    """The job that it holds; null if it holds none, or one of another project."""
    can_take_job: bool | None
    """Whether it could claim the given job now; null if no job was given."""
    reasons: list[ReasonOut] | None
    """Why it cannot claim that job, each with a stable code."""
    started_at: datetime
    seen_at: datetime

    @classmethod
    def of(cls, shown: ShownWorker, reasons: Sequence[Reason] | None = None) -> "WorkerOut":
        return from_row(
            cls,
            shown.worker,
            online=shown.online,
            busy=shown.busy,
            job_id=shown.job_id,
            can_take_job=None if reasons is None else not reasons,
            reasons=None if reasons is None else [ReasonOut(**reason._asdict()) for reason in reasons],
        )


class WorkerList(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    items: list[WorkerOut]
    """The workers, online ones first; at most 1000."""
