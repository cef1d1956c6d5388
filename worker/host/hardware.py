"""What this machine brings to a job, found without torch."""

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
    """With what a training of so many threads computes here, in the environment that its process gets."""
    machine = find_machine()
    return machine._replace(facts=machine_facts(machine.device, threads, machine.device_name, environment()))


def training_device(asked: str) -> Literal["auto", "cuda", "cpu"]:
    """What the training process is told where the spec asks for a device: a worker that announces a GPU trains on it,
    and fails where torch cannot, instead of training on the CPU unnoticed."""
    if asked == "auto" and find_machine().device == "cuda":
        return "cuda"
    return cast(Literal["auto", "cuda", "cpu"], asked)


def find_gpu() -> Gpu | None:
    """The one that training takes; None where there is none."""
    return next(iter(find_gpus()), None)


def find_gpus(memory: str = "memory.total", timeout_seconds: float = 30) -> list[Gpu]:
    """Those that training can see, in CUDA's order, by nvidia-smi: all, or those of CUDA_VISIBLE_DEVICES."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [f"--query-gpu=index,uuid,{memory},name", "--format=csv,noheader,nounits"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [gpu for _, _, gpu in map(read_gpu, ask(program, *query, timeout_seconds=timeout_seconds))]
    words = [word.strip() for word in visible.split(",")]
    slices = ask(program, "-L") if any(word.startswith("MIG-") for word in words) else []
    whole = [read_gpu(line) for line in ask(program, *query, timeout_seconds=timeout_seconds)]
    named = [find_slice(word, slices) if word.startswith("MIG-") else find_whole(word, whole) for word in words]
    # CUDA ends its list at what names no GPU.
    return list(takewhile(lambda gpu: gpu is not None, named))  # type: ignore[arg-type]


def read_gpu(line: str) -> tuple[str, str, Gpu]:
    index, uuid, mebibytes, name = line.split(", ", 3)
    return index, uuid, Gpu(name, float(mebibytes) * 2**20 / 1e9)


def find_whole(wanted: str, gpus: list[tuple[str, str, Gpu]]) -> Gpu | None:
    """By its number or its UUID, of which the beginning suffices CUDA."""
    found = (gpu for index, uuid, gpu in gpus if wanted == index or (wanted[:4] == "GPU-" and uuid.startswith(wanted)))
    return next(found, None)


def find_slice(wanted: str, lines: list[str]) -> Gpu | None:
    """A part of a GPU (MIG); the list names it by its size: `MIG 3g.40gb     Device  0: (UUID: MIG-…)`."""
    for line in lines:
        part = SLICE.search(line)
        if part and part["uuid"].startswith(wanted):
            return Gpu(f"MIG {part['profile']}", float(part["gigabytes"]) * 2**30 / 1e9)
    return None


def ask(*command: str, timeout_seconds: float = 30) -> list[str]:
    with around("ask_gpu"):
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_seconds)
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
