"""Describes the machine, the commit and the libraries of a measurement."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT

LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "tokenizers")


def describe() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "cpu": cpu_model(),
        "num_cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cpu_flags": sorted(set(cpu_field("flags").split()) & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}),
        "load_average": load_average(),
        "libraries": {"python": platform.python_version()} | {name: installed(name) for name in LIBRARIES},
    }


def load_average() -> list[float]:
    """Return the load average over 1, 5 and 15 minutes. It should be near zero before a measurement."""
    return [round(value, 2) for value in os.getloadavg()]


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """Return the commit, with a mark if files differ from it; None outside a clone."""
    ask = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(ask, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None


def cpu_model() -> str:
    return cpu_field("model name") or platform.processor() or platform.machine()


def cpu_field(name: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return ""


def base_model() -> Path:
    """Return the folder of Gemma 3 270M, which the demo's script converts once in a separate process."""
    script = [sys.executable, str(ROOT / "examples" / "base_model.py")]
    return Path(subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])
