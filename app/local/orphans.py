"""Finds and ends the processes that a stack leaves when its supervisor is killed."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from app.local.child import Sleep
from app.local.errors import StartError

MARK = "TUNEWRIGHT_STACK"
"""Marks the stack's processes: as an option of their command, since other processes cannot read the environment of a
program that holds secrets, and as a variable for the processes that they start."""


def list_processes() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def find_processes(folder: Path, *programs: str) -> list[int]:
    """Return processes of these programs that work in this folder. Ids from a file may belong to other programs by
    now."""
    found = []
    for pid in list_processes():
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if name in programs and Path(f"/proc/{pid}/cwd").readlink() == folder:
                found.append(pid)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended in the meantime, or belongs to another user
    return found


def find_marked(data: Path) -> list[int]:
    """Return the processes of an earlier stack on this data folder."""
    word = format_mark(data).encode()
    marked = (
        pid for pid in list_processes() if word in read_words(pid, "cmdline") or word in read_words(pid, "environ")
    )
    return [pid for pid in marked if pid != os.getpid()]


def format_mark(data: Path) -> str:
    return f"{MARK}={data}"


def read_words(pid: int, file: str) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []  # it ended in the meantime, or belongs to another user


def parent_of(pid: int) -> int | None:
    """Return the parent's id, or None if the process has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1])


def children_of(parent: int) -> list[int]:
    return [pid for pid in list_processes() if parent_of(pid) == parent]


def send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it ended in the meantime


def end_processes(find: Callable[[], list[int]], first: signal.Signals, wait_seconds: float, sleep: Sleep) -> None:
    """Ask the topmost of the processes to end, wait, and then kill all that are left."""
    found = find()
    for pid in found:
        # PostgreSQL's helper processes interpret the same signal differently.
        if parent_of(pid) not in found:
            send(pid, first)
    wait_for_end(find, wait_seconds, sleep)
    for pid in find():
        send(pid, signal.SIGKILL)
    wait_for_end(find, 10, sleep)
    if left := find():
        raise StartError(f"processes {left} of an earlier start did not end")


def wait_for_end(find: Callable[[], list[int]], seconds: float, sleep: Sleep) -> None:
    deadline = time.monotonic() + seconds
    while find() and time.monotonic() < deadline:
        sleep(0.1)
