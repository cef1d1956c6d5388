"""Workers on the wire."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from app.workers.repository import ShownWorker

EXAMPLE: dict[str, Any] = {
    "id": "gpu-1-4711",
    "device": "cuda",
    "device_name": "NVIDIA L4",
    "memory_gb": 24.15,
    "queues": ["training"],
    "integrations": ["tensorboard", "wandb"],
    "versions": {"python": "3.12.3", "tunewright": "0.1.0", "torch": "2.13.0"},
    "online": True,
    "draining": False,
    "disk_full": False,
    "busy": True,
    "started_at": "2026-01-05T10:12:13.141593Z",
    "seen_at": "2026-01-05T11:30:02.653589Z",
}


class WorkerOut(BaseModel):
    """A process that works for all projects."""

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra={"example": EXAMPLE})

    id: str
    """Host and process."""
    device: str
    """`cuda` or `cpu`."""
    device_name: str | None
    memory_gb: float
    """Memory of the device, or RAM where that is the CPU, in GB (10^9 bytes)."""
    queues: list[str]
    """`training` for jobs, `light` for inspections."""
    integrations: list[str]
    """Trackers that it passes curves on to: what is installed there, and has its credentials."""
    versions: dict[str, str]
    """What is installed there, by name."""
    online: bool
    """Whether its last sign of life is younger than a lease."""
    draining: bool
    """Asked to stop: it ends what it does and takes nothing new."""
    disk_full: bool
    """There is too little room where it works: it takes nothing new until there is more."""
    busy: bool
    """Whether it holds a job, or a dataset that it inspects or joins, of whatever project."""
    started_at: datetime
    seen_at: datetime

    @classmethod
    def of(cls, shown: ShownWorker) -> "WorkerOut":
        worker = shown.worker
        return cls(
            id=worker.id,
            device=worker.device,
            device_name=worker.device_name,
            memory_gb=worker.memory_gb,
            queues=worker.queues,
            integrations=worker.integrations,
            versions=worker.versions,
            online=shown.online,
            draining=worker.draining,
            disk_full=worker.disk_full,
            busy=shown.busy,
            started_at=worker.started_at,
            seen_at=worker.seen_at,
        )


class WorkerList(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    items: list[WorkerOut]
    """Those online first; at most 1000."""
