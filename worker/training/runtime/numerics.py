"""Collects what decides the last bit of a training's numbers on a machine: this engine, its libraries, the processor
and the threads that share a sum. It does not import torch, so that a worker can publish the facts before it trains
anything.
"""

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

ENGINE_NUMERICS_VERSION: Final = {"cpu": 1, "cuda": 2}
"""Holds a version for each device. Raise it with each change of this engine that changes any number of any training
there, even in its last bit. The package's version does not serve for this: jobs resume exactly across a release that
changes no number."""
LIBRARIES: Final = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers")
GPU_LIBRARIES: Final = (
    *("nvidia-cublas", "nvidia-cublas-cu12", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
    "triton",
)
ISA_VARIABLES: Final = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
"""Lists environment variables that make torch's libraries choose other kernels than the processor's best."""
INSTRUCTIONS: Final = frozenset(
    (
        *("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16"),
        *("avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8", "amx_fp16"),
        *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2"),
    )
)
"""Lists the CPU flags, as Linux names them, by which kernels for products are chosen."""


def machine_facts(
    device: str, threads: int | None, gpu: str | None = None, environ: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Return the facts by name. `threads` are a training's threads on the CPU, or None for torch's choice. `environ` is
    the training process's environment."""
    facts: dict[str, Any] = {"engine": ENGINE_NUMERICS_VERSION[device]} | _versions(LIBRARIES)
    cpus = _cpus()
    facts["device"] = device
    if device == "cuda":  # CUDA numbers depend on no CPU thread
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
    """Return the kernel's record of each processor that this process may use."""
    allowed = {str(number) for number in os.sched_getaffinity(0)}
    blocks = Path("/proc/cpuinfo").read_text().strip().split("\n\n")
    cpus = [{key.strip(): value.strip() for key, _, value in map(_parted, block.splitlines())} for block in blocks]
    return [cpu for cpu in cpus if cpu.get("processor") in allowed]


def _parted(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def _num_cores(cpus: list[dict[str, str]]) -> int:
    """Count the cores, which is torch's default number of threads. Processors count where no core is listed."""
    return len({(cpu.get("physical id"), cpu.get("core id", cpu["processor"])) for cpu in cpus})
