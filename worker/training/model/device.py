"""What torch knows of the machine, and what is installed there. What is found without torch is in `numerics`."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch

LIBRARIES: Final = ("tunewright", "torch", "transformers", "peft", "bitsandbytes", "safetensors", "tokenizers")


def library_versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def kernel_facts(device: str) -> dict[str, Any]:
    """What chooses the kernels: the GPU as torch names it, or what limits a CPU's instructions."""
    if device == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        return {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "cudnn": cudnn}
    return {"cpu_capability": torch.backends.cpu.get_cpu_capability(), "cpu_instructions": _cpu_instructions()}


def _cpu_instructions() -> str:
    """The extensions that oneDNN's kernels are chosen by."""
    probes = {
        "avx2": torch.cpu._is_avx2_supported,
        "avx512": torch.cpu._is_avx512_supported,
        "avx512_vnni": torch.cpu._is_vnni_supported,
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported,
        "amx_tile": torch.cpu._is_amx_tile_supported,
        "amx_fp16": torch.cpu._is_amx_fp16_supported,
    }
    return " ".join(name for name, is_supported in probes.items() if is_supported())


def why_no_cuda() -> str | None:
    """Why torch finds no GPU, in the driver's or its own words; None where it finds one."""
    if torch.cuda.is_available():
        return None
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error)
    return "CUDA counts no GPU"


def peak_memory(device: str) -> int:
    """Bytes: the device's on CUDA, else the process's resident set."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
