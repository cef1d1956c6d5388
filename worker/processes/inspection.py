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
OF_ITS_OWN: Final = {
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


class Gone(Exception):
    """Raised when the inspection was stopped because nobody needs it any more, or the worker is shutting down."""


def run(request: InspectionRequest, chunks: Iterator[bytes], folder: Path, is_over: Callable[[], bool]) -> None:
    """Run an inspection process that reads `chunks` and writes its files to `folder`.

    Raises InspectionFailed if the process fails, and Gone if `is_over` returns true first. Errors of `chunks` are
    passed on. The process is always ended."""
    _judge(finish(COMMAND, request, chunks, folder, is_over), folder)


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
        process.tell(request)  # The process applies its limits now, however slowly the file arrives.
        process.feed(chunks)
        process.wait()
    finally:
        ended.set()
        watch.join()
        process.kill()
        code = process.reap()
    if is_over():
        raise Gone
    return code


def environment() -> dict[str, str]:
    return make_environment(PASSED_ON, OF_ITS_OWN)


def _watch(process: ChildProcess, is_over: Callable[[], bool], ended: threading.Event) -> None:
    """Kill the process once `is_over` returns true. Runs in a thread, because feeding blocks while the process does not
    read."""
    while not ended.wait(TICK_SECONDS):
        if is_over():
            process.kill()
            return


def _judge(code: int, folder: Path) -> None:
    if code == 0:
        return
    if code == DISK_FULL:
        raise StorageFull("The disk of the worker's work folder is full.")
    words = {
        OUT_OF_MEMORY: "it needed more memory than an inspection may use",
        FILE_TOO_LARGE: "its rows, written out, take more disk space than an upload may",
        -signal.SIGXCPU: "it needed more time than an inspection of its size may take",
        -signal.SIGKILL: "the kernel ended the process that read it, most likely for want of memory",
    }
    why = words.get(code, f"the process that read it {how_it_ended(code, folder)}")
    raise InspectionFailed(f"The file could not be read to its end: {why}. Split it, or look for damage in it.")


def how_it_ended(code: int, folder: Path) -> str:
    """Describe the exit code, with the last line of the log if the process was not killed by a signal."""
    with (folder / LOG).open("rb") as log:
        log.seek(max(log.seek(0, os.SEEK_END) - LAST_CHARS, 0))
        last = log.read(LAST_CHARS).decode(errors="replace").strip().rpartition("\n")[2]
    return f"ended with signal {-code}" if code < 0 else f"failed: {last}"
