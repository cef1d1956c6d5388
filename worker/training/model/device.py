"""Describes the machine and the installed libraries with torch. `numerics` collects the facts that do not need
torch.
"""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch

LIBRARIES: Final = ("tunewright", "torch", "transformers", "peft", "bitsandbytes", "safetensors", "tokenizers")


def library_versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def kernel_facts(device: str) -> dict[str, Any]:
    """Return the facts that decide the kernels: torch's name of the GPU, or the limits of a CPU's instructions."""
    if device == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        return {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "cudnn": cudnn}
    return {"cpu_capability": torch.backends.cpu.get_cpu_capability(), "cpu_instructions": _cpu_instructions()}


def _cpu_instructions() -> str:
    """Return the extensions by which oneDNN chooses its kernels."""
    probes = {
        "avx2": torch.cpu._is_avx2_supported,
        "avx512": torch.cpu._is_avx512_supported,
        "avx512_vnni": torch.cpu._is_vnni_supported,
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported,
        "amx_tile": torch.cpu._is_amx_tile_supported,
        "amx_fp16": torch.cpu._is_amx_fp16_supported,
    }
    return " ".join(name for name, is_supported in probes.items() if is_supported())


def explain_missing_cuda() -> str | None:
    """Return the driver's or torch's reason for finding no GPU, or None if torch finds one."""
    if torch.cuda.is_available():
        return None
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error)
    return "CUDA finds no GPU"


def peak_memory(device: str) -> int:
    """Return bytes: the device's peak on CUDA, otherwise that of the process's resident set."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
