"""What a worker brings to a job."""

from typing import NamedTuple


class Machine(NamedTuple):
    """`device` is `cuda` or `cpu`, `device_name` what its maker calls it; `memory_gb` is its memory in 10^9 bytes."""

    worker_id: str
    device: str
    memory_gb: float
    device_name: str | None = None
