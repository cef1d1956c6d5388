"""Describes a worker's hardware."""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class WorkerHardware(NamedTuple):
    """Holds a worker's hardware. `device` is `cuda` or `cpu`, `device_name` its maker's name for it; `memory_gb` is its
    memory in 10^9 bytes.

    The first of several GPUs (`num_gpus`) is the device. `facts` decide the last bit of its numbers: see
    `worker.training.runtime.numerics`."""

    worker_id: str
    device: str
    memory_gb: float
    device_name: str | None = None
    num_gpus: int = 0
    labels: Mapping[str, str] = MappingProxyType({})
    facts: Mapping[str, Any] = MappingProxyType({})

    @property
    def fingerprint(self) -> str:
        """Return a fingerprint. A checkpoint resumes exactly on a machine with the same one."""
        return machine_fingerprint(self.facts)


def machine_fingerprint(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:16]
