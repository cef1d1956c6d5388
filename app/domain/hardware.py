"""What a worker brings to a job."""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class WorkerHardware(NamedTuple):
    """`device` is `cuda` or `cpu`, `device_name` what its maker calls it; `memory_gb` is its memory in 10^9 bytes.

    Of several GPUs (`num_gpus`) the first is the device. `facts` decide the last bit of what it computes: see
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
        """Equal on two machines where a checkpoint of one resumes exactly on the other."""
        return machine_fingerprint(self.facts)


def machine_fingerprint(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:16]
