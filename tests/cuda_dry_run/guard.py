"""Builds the device guard against the headers of the installed torch, and loads it. It does not import torch, since the
guard must be loaded first.
"""

import ctypes
import importlib.util
import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("guard.cpp")
SECONDS = 120
"""Limits the compiler's time. It takes two seconds on a quiet machine."""


class CannotBuild(Exception):
    """Reports that the guard does not compile on this machine."""


def build_guard(folder: Path) -> Path:
    """Return the shared library, built in `folder` by `CXX` (g++ unless set)."""
    torch, library = _torch_folder(), folder / "guard.so"
    command = [os.environ.get("CXX", "g++"), "-O1", "-shared", "-fPIC", "-std=c++20", str(SOURCE), "-o", str(library)]
    command += [f"-I{torch}/include", f"-L{torch}/lib", "-lc10", "-ltorch_cpu"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except OSError as error:
        raise CannotBuild(f"Could not start the C++ compiler: {error}") from error
    if run.returncode != 0:
        first = next((line for line in run.stderr.splitlines() if "error" in line), run.stderr)
        raise CannotBuild(f"Could not compile the headers of the installed torch: {first.strip()}")
    return library


def load_guard(library: Path) -> None:
    """Register the guard with torch's core, which must not have been imported."""
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(_torch_folder() / "lib" / name), ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(library))


def _torch_folder() -> Path:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
