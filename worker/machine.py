"""What this machine brings to a job, found without torch."""

import os
import shutil
import socket
import subprocess

from app.domain.failpoint import around
from app.domain.machine import Machine


def find_machine() -> Machine:
    name = f"{socket.gethostname()}-{os.getpid()}"
    memory_mb = gpu_memory_mb()
    if memory_mb is not None:
        return Machine(name, "cuda", memory_mb * 2**20 / 1e9)
    return Machine(name, "cpu", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)


def gpu_memory_mb() -> float | None:
    """Memory of the first visible GPU in MiB, by nvidia-smi; None where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    query = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    with around("ask_gpu"):
        found = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    lines = found.stdout.split()
    return float(lines[0]) if found.returncode == 0 and lines else None
