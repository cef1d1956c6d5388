"""Writes downloaded files. An incomplete or corrupt file is never written."""

import base64
import hashlib
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import IO

import httpx2

from tunewright.errors import TunewrightError


def safe_path(folder: Path, name: str) -> Path:
    """Return the path of a file that the server named. Rejects names that could be outside `folder` on any
    operating system."""
    parts = PurePosixPath(name).parts
    windows = PureWindowsPath(name)
    hostile = not parts or ".." in parts or not name.isprintable() or "\\" in name
    if hostile or name.startswith("/") or windows.drive or windows.root:
        detail = f"The server sent the unsafe file name {name!r}, which could be outside {folder}. It was not written."
        raise TunewrightError(None, "unsafe_path", detail)
    return folder.joinpath(*parts)


def save(response: httpx2.Response, path: Path, size: int, sha256: str) -> None:
    """Save the body as `path` if its size and SHA-256 match."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    with open_replacement(path) as file:
        for chunk in response.iter_bytes():
            found.update(chunk)
            file.write(chunk)
        if found.hexdigest() != sha256 or file.tell() != size:
            detail = (
                f"{path.name} was received with {file.tell():,} bytes and SHA-256 {found.hexdigest()}; expected "
                f"{size:,} bytes and {sha256}. The file was discarded. Download it again."
            )
            raise TunewrightError(None, "digest_mismatch", detail)


def save_stream(response: httpx2.Response, path: Path) -> None:
    """Save the body as `path` if it is complete. Its digest is not known in advance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_replacement(path) as file:
        for chunk in response.iter_bytes():
            file.write(chunk)


def save_archive(response: httpx2.Response, folder: Path) -> None:
    """Unpack a tar archive into `folder` if its size and SHA-256 match the response's headers."""
    digest = response.headers["Repr-Digest"].removeprefix("sha-256=:").removesuffix(":")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=folder) as scratch:
        path = Path(scratch, f"{folder.name}.tar")
        save(response, path, int(response.headers["Content-Length"]), base64.b64decode(digest).hex())
        with tarfile.open(path) as tar:
            members = [(safe_path(folder, member.name), tar.extractfile(member)) for member in tar if member.isfile()]
            for target, source in members:
                assert source is not None
                target.parent.mkdir(parents=True, exist_ok=True)
                with open_replacement(target) as file:
                    shutil.copyfileobj(source, file)


@contextmanager
def open_replacement(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file in the folder of `path`. It replaces `path` on success and is removed on failure."""
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
