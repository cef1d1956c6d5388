"""Stores bytes by key, over obstore: `file://`, `s3://`, `gs://`, `az://`, `memory://`.

A key consists of generated ids and never of a user's text. On a file store, bytes are fsynced before the caller can
name them in a transaction; object stores guarantee that themselves.
"""

import asyncio
import errno
import hashlib
import io
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from app.domain.artifact import StoredFile
from app.errors import StorageFull
from app.failpoints import around
from app.files import flush_to_disk, is_full, lock_file, sync

CHUNK_BYTES = 2**20
LEAST_PART_BYTES = 8 * 2**20
"""Sets the minimum part size; S3 refuses parts of less than 5 MiB, except the last."""
SAFE_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
HALF_WRITTEN = re.compile(r".+#\d+")
"""Matches obstore's name of a file store's object until it is complete; obstore never lists such files."""


class StoredObject(NamedTuple):
    key: str
    modified_at: datetime
    """Is by the store's clock. For a large object in S3, it is the start of its upload."""
    size: int


class Writer:
    """Writes a growing object and its digest. While a block is written and digested, the next one arrives."""

    def __init__(self, key: str, file: Any) -> None:
        self.key, self.size = key, 0
        self._file, self._digest = file, hashlib.sha256()
        self._pieces: list[bytes] = []
        self._num_waiting = 0
        self._under_way: asyncio.Future[Any] | None = None

    async def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._num_waiting += len(data)
        self.size += len(data)
        if self._num_waiting >= CHUNK_BYTES:
            await self._start_block()

    async def _start_block(self) -> None:
        await self.settle()
        if self._pieces:
            block, self._pieces, self._num_waiting = b"".join(self._pieces), [], 0
            self._under_way = asyncio.ensure_future(self._put(block))

    async def _put(self, block: bytes) -> None:
        if isinstance(self._file, io.BufferedWriter):
            await asyncio.to_thread(self._write_local, self._file, block)
        else:
            await asyncio.gather(self._file.write(block), asyncio.to_thread(self._digest.update, block))

    def _write_local(self, file: io.BufferedWriter, block: bytes) -> None:
        file.write(block)
        self._digest.update(block)

    async def settle(self) -> None:
        """Wait for the block in progress."""
        under_way, self._under_way = self._under_way, None
        if under_way:
            await under_way

    async def sha256(self) -> str:
        """Return the digest of everything that was written, in hex."""
        await self._start_block()
        await self.settle()
        return self._digest.hexdigest()

    async def stored(self, path: str) -> StoredFile:
        return StoredFile(path=path, key=self.key, size=self.size, sha256=await self.sha256())


class DamagedObject(OSError):
    """The stored bytes differ from those that were written."""


FAILURES: Final = (OSError, BaseError, StorageFull)
"""Lists what a store raises when it is away, full or forbidden. obstore's own errors are not OSErrors."""


class Joined(NamedTuple):
    stored: StoredFile
    md5: str | None
    """Is in hex, if it was requested."""


class Storage:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.root = Path(unquote(parts.path)) if parts.scheme == "file" else None
        self._store: Any = from_url(url, mkdir=True) if self.root else from_url(url)
        self._buffer_bytes = CHUNK_BYTES if self.root else LEAST_PART_BYTES

    @asynccontextmanager
    async def writer(self, key: str) -> AsyncIterator[Writer]:
        """Write an object as it arrives. An exception leaves nothing behind."""
        with around("store_object"), converted_full_disk():
            opening: Any = (
                _open_atomic(self.root / _check_key(key))
                if self.root
                else obstore.open_writer_async(self._store, _check_key(key), buffer_size=self._buffer_bytes)
            )
            async with opening as file:
                writer = Writer(key, file)
                try:
                    yield writer
                    await writer.sha256()
                finally:
                    await writer.settle()
            await asyncio.to_thread(self._fsync, key)

    def put_file(self, key: str, source: Path, path: str) -> StoredFile:
        """Store a local file under `key`; `path` is its name in its set."""
        with source.open("rb") as file:
            return self.put_open(key, file, path)

    def put_open(self, key: str, file: IO[bytes], path: str) -> StoredFile:
        """Store an open file under `key`, as `put_file` does."""
        return self._put(key, iter(lambda: file.read(CHUNK_BYTES), b""), path, "store_file")

    def keep_file(
        self, key: str, source: Path, path: str, sha256: str, advance: Callable[[int], None]
    ) -> StoredFile | None:
        """Store a local file whose digest is known; return None if its digest has changed. In a folder on the file's
        own disk it uses no extra space: it becomes a hard link."""
        real = source.resolve()
        if self.root is not None and self.links(real.parent) and real.stat().st_uid == os.geteuid():
            target = self.root / _check_key(key)
            target.parent.mkdir(parents=True, exist_ok=True)
            with around("link_model_file"):
                linked = _try_link(real, target)
            if linked:
                self._fsync(key)
                return StoredFile(path=path, key=key, size=target.stat().st_size, sha256=sha256)
        with source.open("rb") as file:
            blocks = _report_blocks(iter(lambda: file.read(CHUNK_BYTES), b""), advance)
            stored = self._put(key, blocks, path, "store_model_file")
        if stored.sha256 == sha256:
            return stored
        self.delete(key)
        return None

    def links(self, folder: Path) -> bool:
        """Return whether a file of the folder and an object can share the same bytes on a disk."""
        there = next(place for place in (folder, *folder.parents) if place.exists())
        return self.root is not None and self.root.exists() and self.root.stat().st_dev == there.stat().st_dev

    def size_of(self, key: str) -> int | None:
        """Return the size, or None if there is no such object."""
        with suppress(FileNotFoundError):
            return int(obstore.head(self._store, _check_key(key))["size"])
        return None

    def join(self, key: str, keys: Sequence[str], path: str, *, with_md5: bool = False) -> Joined:
        """Concatenate the objects under `keys` into one under `key`. Raise FileNotFoundError if one of them is
        missing."""
        md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None

        def chunks() -> Iterator[bytes]:
            for part in keys:
                for chunk in self.read(part):
                    if md5:
                        md5.update(chunk)
                    yield chunk

        stored = self._put(key, chunks(), path, "join_parts")
        return Joined(stored, md5.hexdigest() if md5 else None)

    def _put(self, key: str, chunks: Iterable[bytes], path: str, step: str) -> StoredFile:
        digest, size = hashlib.sha256(), 0
        with around(step), converted_full_disk():
            with obstore.open_writer(self._store, _check_key(key), buffer_size=self._buffer_bytes) as target:
                for chunk in chunks:
                    target.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
            self._fsync(key)
        return StoredFile(path=path, key=key, size=size, sha256=digest.hexdigest())

    def read(
        self, key: str, start: int = 0, end: int | None = None, *, chunk_bytes: int = CHUNK_BYTES
    ) -> Generator[bytes, None, None]:
        """Yield chunks of the bytes from `start` up to `end` (exclusive). Raise FileNotFoundError if there is no such
        object. Closing the generator closes the object at once."""
        if end == start:
            nothing: Sequence[bytes] = ()
            return (chunk for chunk in nothing)
        options: Any = {}
        if start or end is not None:
            options["range"] = (start, end) if end is not None else {"offset": start}
        result = obstore.get(self._store, _check_key(key), options=options)
        return (bytes(chunk) for chunk in result.stream(min_chunk_size=chunk_bytes))

    def fetch(
        self,
        file: StoredFile,
        target: Path,
        *,
        advance: Callable[[int], None] = lambda num_bytes: None,
        link: bool = False,
    ) -> None:
        """Copy an object to a local file and check its digest. Raise FileNotFoundError if there is no such object,
        DamagedObject if it is truncated or altered. `link` allows a hard link to the object if the store is a folder on
        the same disk: then the file must not be written to. `advance` is called with the size of each block."""
        digest = hashlib.sha256()
        if link and self.root and self.links(target.parent) and _try_link(self.root / _check_key(file.key), target):
            for chunk in _report_blocks(self.read(file.key), advance):
                digest.update(chunk)
        else:
            with target.open("wb") as out:
                for chunk in _report_blocks(self.read(file.key), advance):
                    out.write(chunk)
                    digest.update(chunk)
        if digest.hexdigest() != file.sha256:
            raise DamagedObject(
                errno.EIO, f"stored object {file.key} has digest {digest.hexdigest()}, not {file.sha256}"
            )

    def delete(self, *keys: str) -> None:
        """Delete objects; a missing one is no error."""
        for key in keys:
            with around("delete_object"), suppress(FileNotFoundError):
                obstore.delete(self._store, _check_key(key))

    def list(self, folder: str) -> Iterator[Sequence[StoredObject]]:
        """Yield the complete objects under a folder, a thousand at a time. Keys that this project cannot have written
        are left out."""
        for found in obstore.list(self._store, f"{_check_key(folder)}/", chunk_size=1000):
            yield [
                StoredObject(each["path"], each["last_modified"], each["size"])
                for each in found
                if SAFE_KEY.fullmatch(each["path"])
            ]

    def folders(self, folder: str) -> Sequence[str]:
        """Return the names of the folders directly below a folder."""
        found = obstore.list_with_delimiter(self._store, f"{_check_key(folder)}/")
        return [prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"]]

    def tidy(self, folder: str, before: datetime) -> int:
        """Remove the half-written objects and the empty folders that have not changed since `before`, and return how
        many.

        Only a file store has them: a killed upload leaves its bytes under a name that nothing lists.
        """
        if self.root is None:
            return 0
        with around("tidy_storage"):
            return _tidy_folder(self.root / _check_key(folder), before.timestamp())

    def _fsync(self, key: str) -> None:
        if self.root is None:
            return
        path = self.root / key
        for place in (path, *path.parents):
            sync(place)
            if place == self.root:
                break


def _try_link(source: Path, target: Path) -> bool:
    """Create a hard link and return whether that succeeded. Not every disk supports it, nor may every user."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _report_blocks(blocks: Iterator[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    for block in blocks:
        yield block
        advance(len(block))


@asynccontextmanager
async def _open_atomic(path: Path) -> AsyncIterator[io.BufferedWriter]:
    """Open a file that gets its name once it is complete and on disk. Uses system calls in a thread for each block: an
    upload through obstore's writer is a tenth slower."""
    beside = path.with_name(f"{path.name}#{secrets.randbelow(10**9)}")
    file = await asyncio.to_thread(_create, beside)
    try:
        with file:
            yield file
            await asyncio.to_thread(flush_to_disk, file)
            with around("name_object"):
                beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _create(path: Path) -> io.BufferedWriter:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        # An empty folder may be removed at the same time.
        with suppress(FileNotFoundError):
            file = path.open("xb")
            # While it is locked, `tidy` does not remove it, however slowly it grows.
            lock_file(file.fileno())
            return file


class converted_full_disk:  # noqa: N801 - reads as the statement it is
    """Converts the different errors of a full disk to StorageFull."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and is_full(error):
            raise StorageFull from error


def _check_key(key: str) -> str:
    assert SAFE_KEY.fullmatch(key), f"unsafe storage key {key!r}"
    return key


def _remove_unless_locked(path: Path) -> bool:
    with path.open("rb") as file:
        if not lock_file(file.fileno(), wait=False):
            return False
        path.unlink()
        return True


def _tidy_folder(place: Path, before: float) -> int:
    removed = 0
    try:
        was_idle = place.stat().st_mtime < before
        for path in list(place.iterdir()):
            if path.is_dir() and not path.is_symlink():
                removed += _tidy_folder(path, before)
            elif HALF_WRITTEN.fullmatch(path.name) and path.lstat().st_mtime < before:
                removed += _remove_unless_locked(path)
        if was_idle:
            place.rmdir()
            removed += 1
    except OSError as error:
        # The object is complete, was removed by another process, or is a folder with content.
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise
    return removed
