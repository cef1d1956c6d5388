"""Files that a training process wrote, read by its worker: no link is followed, and none leads out of its folder.

A folder is gone into one name at a time, from the one above it, so that a name that is made a link in between is seen.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from app.storage import SAFE_KEY
from worker.processes.child_messages import ProtocolBroken, is_beneath

FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
MAX_FILES: Final = 10_000


class ChildFiles:
    """Those below `root`, whose own parents nobody but the worker writes to. Paths are absolute. ProtocolBroken where
    something is no plain file, or lies elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self, folder: Path) -> list[str]:
        """Of every file below `folder`, relative to it, in order."""
        found: list[str] = []
        with self._folder(folder) as descriptor:
            for where, folders, files, inner in os.fwalk(dir_fd=descriptor, follow_symlinks=False):
                for name in folders:
                    if not stat.S_ISDIR(os.stat(name, dir_fd=inner, follow_symlinks=False).st_mode):
                        raise ProtocolBroken("it wrote a link into its folder")
                for name in files:
                    _check_plain(os.stat(name, dir_fd=inner, follow_symlinks=False))
                    found.append(Path(where, name).as_posix())
                if len(found) > MAX_FILES:
                    raise ProtocolBroken(f"it wrote more than {MAX_FILES:,} files")
        if not all(SAFE_KEY.fullmatch(name) for name in found):
            raise ProtocolBroken("it wrote a file whose name storage cannot have")
        return sorted(found)

    @contextmanager
    def opened(self, path: Path) -> Iterator[IO[bytes]]:
        """FileNotFoundError if there is none."""
        with self._folder(path.parent) as parent, open_plain(path.name, parent) as file:
            yield file

    def exists(self, path: Path) -> bool:
        """As a plain file."""
        try:
            with self.opened(path):
                return True
        except FileNotFoundError:
            return False

    def remove(self, folder: Path) -> None:
        """As far as it can be: what is left goes with the attempt's folder."""
        with self._folder(folder.parent) as parent:
            shutil.rmtree(folder.name, ignore_errors=True, dir_fd=parent)

    @contextmanager
    def _folder(self, folder: Path) -> Iterator[int]:
        if folder != self.root and not is_beneath(self.root, folder):
            raise ProtocolBroken("it named a file outside of its folder")
        descriptor = os.open(self.root, FOLDER)
        try:
            for name in folder.relative_to(self.root).parts:
                with _links_named():
                    inner = os.open(name, FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)


def open_plain(path: Path | str, folder: int | None = None) -> IO[bytes]:
    """A file to read, which is no link, no pipe and has no other name."""
    with _links_named():
        descriptor = os.open(path, FILE, dir_fd=folder)
    try:
        _check_plain(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_plain(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise ProtocolBroken("it wrote a link, or something else that is no file, into its folder")


@contextmanager
def _links_named() -> Iterator[None]:
    """A link says so by ELOOP, or ENOTDIR; a socket by ENXIO."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise ProtocolBroken("it wrote a link, or something else that is no file, into its folder") from error
        raise
