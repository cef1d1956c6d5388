"""What this machine brings to a job, found without torch."""

import os
import platform
import shutil
import socket
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from app.domain.failpoint import around
from app.domain.machine import Machine

PACKAGES = ("tunewright", "torch", "transformers", "peft", "bitsandbytes")


class Gpu(NamedTuple):
    name: str
    memory_gb: float


@cache
def find_machine() -> Machine:
    id = f"{socket.gethostname()}-{os.getpid()}"
    gpu = find_gpu()
    if gpu is not None:
        return Machine(id, "cuda", gpu.memory_gb, gpu.name)
    return Machine(id, "cpu", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, find_cpu())


def find_gpu() -> Gpu | None:
    """The first visible GPU, by nvidia-smi; None where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    query = [program, "--query-gpu=memory.total,name", "--format=csv,noheader,nounits"]
    with around("ask_gpu"):
        found = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    lines = found.stdout.splitlines()
    if found.returncode != 0 or not lines:
        return None
    mebibytes, name = lines[0].split(", ", 1)
    return Gpu(name, float(mebibytes) * 2**20 / 1e9)


def find_cpu() -> str:
    """The processor as the kernel names it, or its architecture where the kernel names none."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


@cache
def find_versions() -> dict[str, str]:
    """What is installed of Tunewright and what it trains with, without importing any of it."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
