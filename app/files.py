"""Locks, files that appear whole, and what a full disk looks like. Stdlib only: child processes import it too."""

import errno
import fcntl
import os
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from app.failpoints import around

STDERR: Final = 2


def lock_file(file: int, *, wait: bool = True, shared: bool = False) -> bool:
    """Locks an open file; False if another process holds it and `wait` is off. The kernel drops the lock when the file
    is closed, which is when its process ends, at the latest."""
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_locked(path: Path, *, wait: bool = True, shared: bool = False) -> int | None:
    """Opens a lock file and locks it; creates it if it is missing. None if another process holds it and `wait` is off.

    A holder may remove the file as long as it has it alone: the lock that is returned is of the file at `path`."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not lock_file(file, wait=wait, shared=shared):
            os.close(file)
            return None
        if _is_at(file, path):
            return file
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def replacing(path: Path, step: str, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Opens a new file beside `path` that takes its name at the end of the block, when it is whole and on disk. After
    an exception `path` is as it was, and nothing is left. `step` names the failpoints around the rename."""
    partial = path.with_name(f".partial-{os.urandom(8).hex()}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            flush_to_disk(file)
        with around(step):
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def flush_to_disk(file: BinaryIO) -> None:
    """Puts on disk what was written to an open file."""
    file.flush()
    os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Puts a file on disk, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Puts every file below a folder on disk, and the folder itself."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def is_full(error: BaseException) -> bool:
    """Libraries in other languages tell it in words alone."""
    told = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return told or "No space left on device" in str(error)


def free_bytes(folder: Path) -> int:
    """For what is to be written there, the folder itself included."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(there).free


def print_trace() -> None:
    """Of the exception at hand, into the log. A log without room must hide neither what is told by other ways nor the
    exit code, which Python changes if a buffer cannot be emptied at its end: none is used."""
    with suppress(OSError):
        os.write(STDERR, traceback.format_exc().encode(errors="replace"))
