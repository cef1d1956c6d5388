"""Starts, feeds, watches and ends the inspection process. See `worker.inspection.protocol`."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from app.errors import StorageFull
from worker.child_process import ChildProcess, make_environment, start_process
from worker.inspection.protocol import InspectionRequest
from worker.rlimits import DISK_FULL, FILE_TOO_LARGE, OUT_OF_MEMORY

COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "worker.inspection")
PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "FAILPOINT", "FAILPOINT_ONCE")
"""The process may see these environment variables."""
OWN_VARIABLES: Final = {
    # By default the C library returns large blocks to the kernel at once and requests them again, which took half of
    # the time.
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
    # A thread pool, with a stack and a heap for each thread, counts against the memory limit.
    "OPENBLAS_NUM_THREADS": "1",
}
LOG: Final = "log"
TICK_SECONDS: Final = 0.1
LAST_CHARS: Final = 500


class InspectionFailed(Exception):
    """Raised when the process died or exceeded a limit. The message is shown to the dataset's user."""


class WorkStopped(Exception):
    """Raised when the work was stopped because it is no longer needed, or the worker is shutting down."""


def run(request: InspectionRequest, chunks: Iterator[bytes], folder: Path, is_over: Callable[[], bool]) -> None:
    """Run an inspection process that reads `chunks` and writes its files to `folder`.

    Raises InspectionFailed if the process fails, and WorkStopped if `is_over` returns true first. Errors of `chunks`
    are passed on. The process is always ended."""
    _raise_for_exit(finish(COMMAND, request, chunks, folder, is_over), folder)


def finish(
    command: Sequence[str], request: BaseModel, chunks: Iterator[bytes], folder: Path, is_over: Callable[[], bool]
) -> int:
    """Run a process and return its exit code. Its stdin is the request as one line, followed by `chunks`."""
    with (folder / LOG).open("wb") as log:
        process = ChildProcess(
            start_process(command, "start_inspection", env=environment(), stdout=log, stderr=log, cwd=folder)
        )
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(process, is_over, ended), name="inspection-watch", daemon=True)
    watch.start()
    try:
        process.send(request)  # The process applies its limits now, however slowly the file arrives.
        process.feed(chunks)
        process.wait()
    finally:
        ended.set()
        watch.join()
        process.kill()
        code = process.reap()
    if is_over():
        raise WorkStopped
    return code


def environment() -> dict[str, str]:
    return make_environment(PASSED_ON, OWN_VARIABLES)


def _watch(process: ChildProcess, is_over: Callable[[], bool], ended: threading.Event) -> None:
    """Kill the process once `is_over` returns true. Runs in a thread, because feeding blocks while the process does not
    read."""
    while not ended.wait(TICK_SECONDS):
        if is_over():
            process.kill()
            return


def _raise_for_exit(code: int, folder: Path) -> None:
    if code == 0:
        return
    if code == DISK_FULL:
        raise StorageFull("The disk of the worker's work folder is full. Free disk space on the worker.")
    reasons = {
        OUT_OF_MEMORY: "the inspection exceeded its memory limit",
        FILE_TOO_LARGE: "the decompressed rows exceed the size limit of an upload",
        -signal.SIGXCPU: "the inspection exceeded the time limit for a file of this size",
        -signal.SIGKILL: "the kernel killed the inspection process, probably because memory ran out",
    }
    why = reasons.get(code, f"the inspection process {describe_exit(code, folder)}")
    raise InspectionFailed(
        f"The file could not be inspected completely: {why}. Split the file, or check it for damage."
    )


def describe_exit(code: int, folder: Path) -> str:
    """Describe the exit code, with the last line of the log if the process was not killed by a signal."""
    with (folder / LOG).open("rb") as log:
        log.seek(max(log.seek(0, os.SEEK_END) - LAST_CHARS, 0))
        last = log.read(LAST_CHARS).decode(errors="replace").strip().rpartition("\n")[2]
    return f"was killed by signal {-code}" if code < 0 else f"failed: {last}"
