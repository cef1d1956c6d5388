"""What this machine brings to a job, found without torch."""

import os
import platform
import re
import shutil
import socket
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from app.domain.failpoint import around
from app.domain.integration import NEEDS, IntegrationType, served
from app.domain.machine import Machine

SLICE = re.compile(r"MIG (?P<profile>\S*\.(?P<gigabytes>\d+)gb\S*) .*\(UUID: (?P<uuid>MIG-[^)]+)\)")
TRACKERS = tuple(name for needs in NEEDS.values() for name in needs.packages)
PACKAGES = ("tunewright", "torch", "transformers", "peft", "bitsandbytes", *TRACKERS)


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
    """The one that training takes, by nvidia-smi: the first, or the first of CUDA_VISIBLE_DEVICES; None where there is
    none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    if wanted.startswith("MIG-"):
        return find_slice(wanted, ask(program, "-L"))
    for line in ask(program, "--query-gpu=index,uuid,memory.total,name", "--format=csv,noheader,nounits"):
        index, uuid, mebibytes, name = line.split(", ", 3)
        # CUDA takes the beginning of a UUID too, and ends its list at what names no GPU.
        if wanted == index or (wanted.startswith("GPU-") and uuid.startswith(wanted)):
            return Gpu(name, float(mebibytes) * 2**20 / 1e9)
    return None


def find_slice(wanted: str, lines: list[str]) -> Gpu | None:
    """A part of a GPU (MIG); the list names it by its size: `MIG 3g.40gb     Device  0: (UUID: MIG-…)`."""
    for line in lines:
        part = SLICE.search(line)
        if part and part["uuid"].startswith(wanted):
            return Gpu(f"MIG {part['profile']}", float(part["gigabytes"]) * 2**30 / 1e9)
    return None


def ask(*command: str) -> list[str]:
    with around("ask_gpu"):
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return found.stdout.splitlines() if found.returncode == 0 else []


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


def find_integrations() -> list[IntegrationType]:
    """The trackers that this worker can pass curves on to."""
    return served(find_versions(), os.environ)
