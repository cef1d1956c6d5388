"""What decides the last bit of a training's numbers on a machine: this engine, its libraries, the processor and the
threads that share a sum. Found without torch, so that a worker can publish it before it trains anything.
"""

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

ENGINE_NUMERICS_VERSION: Final = {"cpu": 1, "cuda": 2}
"""By device. Raise it with each change of this engine that changes a number of any training there, in its last bit or
further. The package's own version says nothing about that: a release that changes no number goes on with every job
exactly."""
LIBRARIES: Final = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers")
GPU_LIBRARIES: Final = (
    *("nvidia-cublas", "nvidia-cublas-cu12", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
    "triton",
)
ISA_VARIABLES: Final = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
"""Environment that makes the libraries under torch choose other kernels than the processor's best."""
INSTRUCTIONS: Final = frozenset(
    (
        *("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16"),
        *("avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8", "amx_fp16"),
        *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2"),
    )
)
"""What the kernels of a product are chosen by, as Linux names it."""


def machine_facts(
    device: str, threads: int | None, gpu: str | None = None, environ: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """By name. `threads` are a training's on the CPU, None for torch's own choice; `environ` is the training
    process's."""
    facts: dict[str, Any] = {"engine": ENGINE_NUMERICS_VERSION[device]} | _versions(LIBRARIES)
    cpus = _cpus()
    facts["device"] = device
    if device == "cuda":  # whose numbers depend on no thread of the CPU
        return facts | {"gpu": gpu} | _versions(GPU_LIBRARIES)
    facts["threads"] = threads or f"all of {len(cpus)} CPUs, {_num_cores(cpus)} cores"
    first = cpus[0] if cpus else {}
    flags = INSTRUCTIONS & set((first.get("flags") or first.get("Features") or "").split())
    facts |= {"cpu": first.get("model name"), "instructions": " ".join(sorted(flags))}
    return facts | {name: environ[name] for name in ISA_VARIABLES if name in environ}


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpus() -> list[dict[str, str]]:
    """What the kernel tells of each processor that this process may use."""
    allowed = {str(number) for number in os.sched_getaffinity(0)}
    blocks = Path("/proc/cpuinfo").read_text().strip().split("\n\n")
    told = [{key.strip(): value.strip() for key, _, value in map(_parted, block.splitlines())} for block in blocks]
    return [cpu for cpu in told if cpu.get("processor") in allowed]


def _parted(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def _num_cores(cpus: list[dict[str, str]]) -> int:
    """torch takes a thread for each core, where it is told; else for each processor."""
    return len({(cpu.get("physical id"), cpu.get("core id", cpu["processor"])) for cpu in cpus})
