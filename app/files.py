"""What a full disk looks like to those who write to it."""

import errno
import os
import shutil
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Final

STDERR: Final = 2


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
