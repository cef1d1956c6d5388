"""Reads files that a training process wrote, without following links and without leaving its folder.

Folders are opened one path component at a time, relative to their parent, so that a component that is replaced by a
link is detected."""

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
    """Accesses files below `root`, whose parents only the worker can write. Paths are absolute.

    Raises ProtocolBroken for anything that is not a plain file, or is outside `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self, folder: Path) -> list[str]:
        """Return the sorted paths of all files below `folder`, relative to it."""
        found: list[str] = []
        with self._folder(folder) as descriptor:
            for where, folders, files, inner in os.fwalk(dir_fd=descriptor, follow_symlinks=False):
                for name in folders:
                    if not stat.S_ISDIR(os.stat(name, dir_fd=inner, follow_symlinks=False).st_mode):
                        raise ProtocolBroken("it created a link in its folder")
                for name in files:
                    _check_plain(os.stat(name, dir_fd=inner, follow_symlinks=False))
                    found.append(Path(where, name).as_posix())
                if len(found) > MAX_FILES:
                    raise ProtocolBroken(f"it wrote more than {MAX_FILES:,} files")
        if not all(SAFE_KEY.fullmatch(name) for name in found):
            raise ProtocolBroken("it wrote a file with a name that storage does not support")
        return sorted(found)

    @contextmanager
    def opened(self, path: Path) -> Iterator[IO[bytes]]:
        """Open a file for reading. Raises FileNotFoundError if it does not exist."""
        with self._folder(path.parent) as parent, open_plain(path.name, parent) as file:
            yield file

    def exists(self, path: Path) -> bool:
        """Return whether `path` is a plain file."""
        try:
            with self.opened(path):
                return True
        except FileNotFoundError:
            return False

    def remove(self, folder: Path) -> None:
        """Remove a folder as far as possible. Anything left is removed with the attempt's folder."""
        with self._folder(folder.parent) as parent:
            shutil.rmtree(folder.name, ignore_errors=True, dir_fd=parent)

    @contextmanager
    def _folder(self, folder: Path) -> Iterator[int]:
        if folder != self.root and not is_beneath(self.root, folder):
            raise ProtocolBroken("it named a file outside its folder")
        descriptor = os.open(self.root, FOLDER)
        try:
            for name in folder.relative_to(self.root).parts:
                with _convert_link_errors():
                    inner = os.open(name, FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)


def open_plain(path: Path | str, folder: int | None = None) -> IO[bytes]:
    """Open a plain file for reading. Links, hard links and pipes are rejected."""
    with _convert_link_errors():
        descriptor = os.open(path, FILE, dir_fd=folder)
    try:
        _check_plain(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_plain(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise ProtocolBroken("it created a link or a special file in its folder")


@contextmanager
def _convert_link_errors() -> Iterator[None]:
    """Convert the errors of links (ELOOP, ENOTDIR) and sockets (ENXIO) into ProtocolBroken."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise ProtocolBroken("it created a link or a special file in its folder") from error
        raise
