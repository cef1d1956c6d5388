"""Handles file locks, atomic replacement of files, and full disks. Uses only the standard library, because child
processes import it too."""

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
    """Lock an open file; return False if another process holds it and `wait` is off. The kernel releases the lock when
    the file is closed, at the latest when the process ends."""
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_locked(path: Path, *, wait: bool = True, shared: bool = False) -> int | None:
    """Open a lock file and lock it; create it if it is missing. Return None if another process holds it and `wait` is
    off.

    A holder may remove the file while it holds it exclusively; therefore the returned lock is checked to be of the file
    at `path`.
    """
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
    """Open a new file beside `path`, and rename it to `path` at the end of the block, when it is complete and on disk.
    After an exception `path` is unchanged, and nothing is left. `step` names the failpoints around the rename."""
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
    """Flush what was written to an open file to disk."""
    file.flush()
    os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Sync a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Sync every file below a folder, and the folder itself, to disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def is_full(error: BaseException) -> bool:
    """Return whether the disk is full. Libraries in other languages report it only as text."""
    has_code = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return has_code or "No space left on device" in str(error)


def free_bytes(folder: Path) -> int:
    """Return the free bytes for a folder that may not exist yet."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(there).free


def print_trace() -> None:
    """Print the current exception's traceback to the log. A full log must hide neither what is reported otherwise nor
    the exit code, which Python changes if a buffer cannot be flushed at exit: therefore no buffer is used."""
    with suppress(OSError):
        os.write(STDERR, traceback.format_exc().encode(errors="replace"))
