"""Workers on the wire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from app.web.row_schema import from_row
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
    "can_take_job": None,
    "reasons": None,
    "started_at": "2026-01-05T10:12:13.141593Z",
    "seen_at": "2026-01-05T11:30:02.653589Z",
}


class ReasonOut(BaseModel):
    """Why a worker could not take up a job now."""

    code: str
    """What passes is `offline`, `draining`, `disk_full` or `busy`; what does not is `no_training_queue`,
    `project_labels`, `labels`, `device`, `gpu`, `memory` or `gpu_preferred`."""
    message: str

    model_config = ConfigDict(use_attribute_docstrings=True)


class WorkerOut(BaseModel):
    """A process that works for all projects."""

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra={"example": EXAMPLE})

    id: str
    """Host and process."""
    device: str
    """`cuda` or `cpu`."""
    device_name: str | None
    """What its maker calls the device: the name that `resources.gpu` of a job is compared with."""
    num_gpus: int
    """GPUs that it may use; it trains on the first."""
    memory_gb: float
    """Memory of the device, or RAM where that is the CPU, in GB (10^9 bytes)."""
    free_memory_gb: float | None
    """How much of it was free at the last heartbeat (on a GPU, up to 30 seconds before); null where the driver does
    not say, as for a part of a GPU."""
    labels: dict[str, str]
    """`TUNEWRIGHT_WORKER_LABELS` of the worker."""
    queues: list[str]
    """`training` for jobs, `light` for inspections."""
    integrations: list[str]
    """Trackers that it passes curves on to: what is installed there, and has its credentials."""
    versions: dict[str, str]
    """What is installed there, by name."""
    machine_fingerprint: str
    """A checkpoint resumes exactly on workers with the fingerprint of the one that wrote it."""
    machine_facts: dict[str, Any]
    """What the fingerprint is made of: what decides the last bit of a training's numbers there."""
    online: bool
    """Whether its last heartbeat is younger than a lease."""
    draining: bool
    """Asked to stop: it ends what it does and takes nothing new."""
    disk_full: bool
    """There is too little disk space where it works: it takes nothing new until there is more."""
    busy: bool
    """Whether it holds a job, or a dataset that it inspects or assembles, of whatever project."""
    can_take_job: bool | None
    """Whether it could take up the job that was asked about now; null where none was."""
    reasons: list[ReasonOut] | None
    """What keeps it from that job, each by a stable code."""
    started_at: datetime
    seen_at: datetime

    @classmethod
    def of(cls, shown: ShownWorker, reasons: Sequence[Reason] | None = None) -> "WorkerOut":
        return from_row(
            cls,
            shown.worker,
            online=shown.online,
            busy=shown.busy,
            can_take_job=None if reasons is None else not reasons,
            reasons=None if reasons is None else [ReasonOut(**reason._asdict()) for reason in reasons],
        )


class WorkerList(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    items: list[WorkerOut]
    """Those online first; at most 1000."""
