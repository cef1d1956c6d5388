"""Measures a process's memory and CPU time from outside."""

import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[1]


class ProcessFailed(Exception):
    """Raised when the process failed. The message is the end of its log, or its last message."""


def peak_memory(pid: int) -> int:
    """Return VmHWM in bytes; 0 once the process has ended."""
    return _memory(pid, "VmHWM:")


def resident_memory(pid: int) -> int:
    """Return VmRSS in bytes; 0 once the process has ended."""
    return _memory(pid, "VmRSS:")


def _memory(pid: int, name: str) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(status.split(name)[1].split()[0]) * 1024 if name in status else 0


class MemoryWatch:
    """Samples the memory of a process and its children ten times a second. VmHWM only grows, so no peak before the last
    sample is missed."""

    def __init__(self, pid: int) -> None:
        self._pid, self._over = pid, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak = 0
        """Is the peak memory of the process itself in bytes."""
        self.largest_child = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.peak = max(self.peak, peak_memory(self._pid))
            self.largest_child = max([self.largest_child, *map(peak_memory, children(self._pid))])


def children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # The thread has ended.
    return found


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of all threads of the process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def environment(folder: Path, threads: int) -> dict[str, str]:
    """Return an offline environment with separate caches, so that no run profits from an earlier one. GOMP_SPINCOUNT
    has the training process's value: idle threads sleep soon, since spinning slows all processes of a busy machine."""
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "HF_HOME": str(folder / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": str(threads),
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "1000"),
    }


def run_to_end(command: list[str], folder: Path, threads: int) -> dict[str, float]:
    """Run the process to its end; return its start time and peak memory."""
    log = folder / "log.txt"
    with log.open("w") as log_file:
        started = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env=environment(folder, threads), stdout=log_file, stderr=log_file
        )
        try:
            with MemoryWatch(process.pid) as watch:
                process.wait()
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise ProcessFailed(f"{' '.join(command[:3])}:\n{log.read_text()[-3000:]}")
    return {"started_at": started, "peak_memory_bytes": watch.peak}
