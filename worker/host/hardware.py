"""Finds this machine's hardware and package versions, without importing torch."""

import os
import platform
import re
import shutil
import socket
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile
from pathlib import Path
from typing import Literal, NamedTuple, cast

from app.domain.hardware import WorkerHardware
from app.domain.integration import NEEDS, IntegrationType, served
from app.failpoints import around
from worker.processes.training import environment
from worker.training.runtime.numerics import machine_facts

SLICE = re.compile(r"MIG (?P<profile>\S*\.(?P<gigabytes>\d+)gb\S*) .*\(UUID: (?P<uuid>MIG-[^)]+)\)")
TRACKERS = tuple(name for needs in NEEDS.values() for name in needs.packages)
PACKAGES = ("tunewright", "torch", "transformers", "peft", "bitsandbytes", *TRACKERS)


class Gpu(NamedTuple):
    name: str
    memory_gb: float


@cache
def find_machine() -> WorkerHardware:
    id = f"{socket.gethostname()}-{os.getpid()}"
    gpus = find_gpus()
    if gpus:
        return WorkerHardware(id, "cuda", gpus[0].memory_gb, gpus[0].name, len(gpus))
    return WorkerHardware(id, "cpu", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, find_cpu())


def find_training_machine(threads: int | None) -> WorkerHardware:
    """Return the machine with the facts of a training with that many threads, in its process's environment."""
    machine = find_machine()
    return machine._replace(facts=machine_facts(machine.device, threads, machine.device_name, environment()))


def training_device(asked: str) -> Literal["auto", "cuda", "cpu"]:
    """Return the device for the training process. A worker that announces a GPU always trains on it: where torch cannot
    use the GPU the job fails, instead of training on the CPU unnoticed."""
    if asked == "auto" and find_machine().device == "cuda":
        return "cuda"
    return cast(Literal["auto", "cuda", "cpu"], asked)


def find_gpu() -> Gpu | None:
    """Return the GPU that training uses; None if there is none."""
    return next(iter(find_gpus()), None)


def find_gpus(memory: str = "memory.total", timeout_seconds: float = 30) -> list[Gpu]:
    """Return the GPUs that training can see, in CUDA's order, as listed by nvidia-smi: all, or those of
    CUDA_VISIBLE_DEVICES."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [f"--query-gpu=index,uuid,{memory},name", "--format=csv,noheader,nounits"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [gpu for _, _, gpu in map(read_gpu, run_nvidia_smi(program, *query, timeout_seconds=timeout_seconds))]
    words = [word.strip() for word in visible.split(",")]
    slices = run_nvidia_smi(program, "-L") if any(word.startswith("MIG-") for word in words) else []
    whole = [read_gpu(line) for line in run_nvidia_smi(program, *query, timeout_seconds=timeout_seconds)]
    named = [find_slice(word, slices) if word.startswith("MIG-") else find_whole(word, whole) for word in words]
    # CUDA ignores the rest of the list after the first entry that is not a GPU.
    return list(takewhile(lambda gpu: gpu is not None, named))  # type: ignore[arg-type]


def read_gpu(line: str) -> tuple[str, str, Gpu]:
    index, uuid, mebibytes, name = line.split(", ", 3)
    return index, uuid, Gpu(name, float(mebibytes) * 2**20 / 1e9)


def find_whole(wanted: str, gpus: list[tuple[str, str, Gpu]]) -> Gpu | None:
    """Find a GPU by its index or its UUID. CUDA accepts a prefix of the UUID."""
    found = (gpu for index, uuid, gpu in gpus if wanted == index or (wanted[:4] == "GPU-" and uuid.startswith(wanted)))
    return next(found, None)


def find_slice(wanted: str, lines: list[str]) -> Gpu | None:
    """Find a part of a GPU (MIG). The list shows its size: `MIG 3g.40gb Device 0: (UUID: MIG-…)`."""
    for line in lines:
        part = SLICE.search(line)
        if part and part["uuid"].startswith(wanted):
            return Gpu(f"MIG {part['profile']}", float(part["gigabytes"]) * 2**30 / 1e9)
    return None


def run_nvidia_smi(*command: str, timeout_seconds: float = 30) -> list[str]:
    with around("ask_gpu"):
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_seconds)
    return found.stdout.splitlines() if found.returncode == 0 else []


def find_cpu() -> str:
    """Return the processor's name from the kernel, or its architecture if the kernel reports no name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


@cache
def find_versions() -> dict[str, str]:
    """Return the versions of Tunewright and of the packages that it trains with, without importing them."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def find_integrations() -> list[IntegrationType]:
    """Return the trackers that this worker supports."""
    return served(find_versions(), os.environ)
