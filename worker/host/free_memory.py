"""Reads how much of the device's memory is free, for the list of workers."""

import os
import subprocess
import time
from pathlib import Path
from typing import Final

import structlog

from worker.host.hardware import find_gpus

log = structlog.get_logger()

REFRESH_SECONDS: Final = 30.0
"""A driver may take a second to answer; the kernel reports a CPU's memory at once."""
ANSWER_SECONDS: Final = 5.0
"""Is half a heartbeat, so that a hung driver does not make the worker look lost."""


class FreeMemory:
    """Reads the free memory of the device that a worker trains on."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._known: float | None = None
        self._read_at = -REFRESH_SECONDS

    def read_gb(self) -> float | None:
        """Return the free memory; None for a part of a GPU, and while the driver does not answer."""
        if self._device == "cpu":
            return available_memory_gb()
        if time.monotonic() - self._read_at >= REFRESH_SECONDS:
            self._known, self._read_at = free_gpu_memory_gb(), time.monotonic()
        return self._known


def available_memory_gb() -> float:
    """Return the memory that the kernel could give to a program without swapping."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kibibytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return int(kibibytes) * 1024 / 1e9


def free_gpu_memory_gb() -> float | None:
    if os.environ.get("CUDA_VISIBLE_DEVICES", "").strip().startswith("MIG-"):
        return None
    try:
        gpus = find_gpus("memory.free", ANSWER_SECONDS)
    except (subprocess.TimeoutExpired, ValueError) as error:
        log.warning("could not read the free memory of the GPU", error=str(error)[:300])
        return None
    return gpus[0].memory_gb if gpus else None
