"""What a worker brings to a job."""

from typing import NamedTuple


class Machine(NamedTuple):
    """`device` is `cuda` or `cpu`; `memory_gb` is the memory of that device in 10^9 bytes."""

    worker_id: str
    device: str
    memory_gb: float
