"""What a worker brings to a job."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Machine(NamedTuple):
    """`device` is `cuda` or `cpu`, `device_name` what its maker calls it; `memory_gb` is its memory in 10^9 bytes.

    Of several GPUs (`num_gpus`) the first is the device."""

    worker_id: str
    device: str
    memory_gb: float
    device_name: str | None = None
    num_gpus: int = 0
    labels: Mapping[str, str] = MappingProxyType({})
