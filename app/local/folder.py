"""Manages the data folder of a local stack: its checks, its locks, its short paths for sockets."""

import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.files import open_locked, replacing
from app.local.errors import StartError

FREE_BYTES = 300 * 10**6
"""Covers PostgreSQL's empty cluster, its write-ahead log and the first logs, but no datasets."""
SOCKET_PATH_BYTES = 103
"""Is Linux's 107, less some for the names that a server puts beside its socket."""
LONGEST_SOCKET = "pg/.s.PGSQL.5432"


def open_folder(data: Path) -> Path:
    """Create the data folder if it is missing, and check that the current user owns it and can write to it."""
    data = data.expanduser().resolve()
    try:
        if data.exists() and data.stat().st_uid != os.geteuid():
            raise StartError(f"cannot use the data folder {data}{owner_note(data)}")
        if not data.exists() or not any(data.iterdir()):
            data.mkdir(parents=True, exist_ok=True)
            # Root's folder can be entered, because PostgreSQL runs as another user there.
            data.chmod(0o711 if os.geteuid() == 0 else 0o700)
        (data / "logs").mkdir(mode=0o700, exist_ok=True)
        tempfile.TemporaryFile(dir=data).close()
    except OSError as error:
        raise StartError(f"cannot use the data folder {data}: {error.strerror}{owner_note(data)}") from error
    return data


def owner_note(data: Path) -> str:
    """Name the folder's owner, where that explains why it cannot be used."""
    with_parents = next((path for path in (data, *data.parents) if os.path.lexists(path)), data)
    owner = with_parents.lstat().st_uid
    if owner == os.geteuid():
        return "; choose another with --data-dir"
    return f" ({with_parents} belongs to {user_name(owner)}); choose another with --data-dir"


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def check_space(data: Path) -> None:
    free = shutil.disk_usage(data).free
    if free < FREE_BYTES:
        raise StartError(
            f"the disk of the data folder {data} has {free / 1e6:.0f} MB free, but {FREE_BYTES / 1e6:.0f} MB "
            "are needed; free space, or choose another with --data-dir"
        )


def space_note(data: Path) -> str:
    """Return the end of an error line, where a full disk is the probable cause."""
    free = shutil.disk_usage(data).free
    return f"; the disk of {data} is full ({free / 1e6:.0f} MB free)" if free < 32 * 10**6 else ""


@contextmanager
def locked(path: Path, refusal: Callable[[], str]) -> Iterator[None]:
    """Hold a lock that is released when this process ends, in whatever way."""
    file = open_locked(path, wait=False)
    if file is None:
        raise StartError(refusal())
    try:
        yield
    finally:
        os.close(file)


def socket_folder(data: Path) -> Path:
    """Return a folder for sockets that other users cannot enter: `run` in the data folder, or a folder in the system's
    temporary folder if that path is too long for a socket or has characters with a meaning in connection URLs."""
    here = data / "run"
    long = len(os.fsencode(here / LONGEST_SOCKET)) > SOCKET_PATH_BYTES
    if long or not re.fullmatch(r"[\w./+-]+", str(here), re.ASCII):
        digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
        here = short_temporary_folder() / f"tunewright-{os.geteuid()}-{digest}"
    here.mkdir(mode=0o700, exist_ok=True)
    found = here.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise StartError(f"{here} is not a folder owned by {user_name(os.geteuid())}; remove it")
    here.chmod(0o711 if os.geteuid() == 0 else 0o700)
    return here


def short_temporary_folder() -> Path:
    chosen = Path(tempfile.gettempdir())
    return chosen if re.fullmatch(r"[\w./+-]{1,40}", str(chosen), re.ASCII) else Path("/tmp")  # noqa: S108 - its owner is verified


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all, and durably."""
    with replacing(path, "write_private") as file:
        file.write(text.encode())


def already_running(data: Path) -> str:
    """Return the error line for a second stack on the same data folder."""
    try:
        server = json.loads((data / "server.json").read_text())
    except FileNotFoundError:
        return f"a stack is already starting on the data folder {data}; choose another with --data-dir"
    return (
        f"a stack is already running on the data folder {data}: {server['url']}, process {server['pid']}; "
        "stop it, or choose another with --data-dir"
    )
