"""Caches base models on this machine's disk, in `models/{digest of its files}` of the cache folder. They are fetched
from storage by digest and kept while there is disk space; the least recently used are removed first.

A reader of a model holds a shared lock on `{digest}.lock`, which the kernel releases with the process. A model is
removed only under an exclusive lock. A file is renamed to its final name once it is complete and its digest is right. A
mark next to the folder identifies that file, so that a file changed since then is fetched again."""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from app.db.tables import RegisteredModel
from app.domain.artifact import StoredFile
from app.errors import InvalidModelFolder
from app.failpoints import around
from app.files import free_bytes, open_locked
from app.settings import Settings
from app.storage import DamagedObject, Storage

log = structlog.get_logger()

LEAST_FREE_BYTES: Final = 32 * 10**6
WEIGHTS: Final = ".safetensors"
TICK_SECONDS: Final = 0.2
GB: Final = 10**9

Progress = Callable[[int, int], None]
"""Is called with the number of bytes fetched and the total."""


class FetchStopped(Exception):
    """Raised when the fetch was stopped before it was complete."""


class ModelCache:
    def __init__(self, settings: Settings, storage: Storage) -> None:
        self.cache_dir = settings.cache_dir.absolute()
        self._place = self.cache_dir / "models"
        limit = settings.model_cache_gb
        self._storage, self._limit = storage, None if limit is None else int(limit * GB)

    @contextmanager
    def hold(
        self,
        model: RegisteredModel,
        *,
        weights: bool = True,
        progress: Progress = lambda done, total: None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> Iterator[Path]:
        """Yield the model's folder, which stays unchanged inside the context. Without `weights` the weight files may be
        missing.

        Raises InvalidModelFolder if storage lost or altered a file, and FetchStopped once `is_over` returns true."""
        files = [StoredFile.model_validate(file) for file in model.files]
        cached = CachedModel(self._place, digest_of(files))
        wanted = [file for file in files if weights or not file.path.endswith(WEIGHTS)]
        with hold_lock(cached.lock, is_over, shared=True):
            os.utime(cached.lock)
            if cached.missing(wanted):
                with hold_lock(cached.fetch_lock, is_over):
                    self._fetch(model.name, cached, wanted, progress, is_over)
            yield cached.folder

    def _fetch(
        self,
        name: str,
        cached: "CachedModel",
        wanted: Sequence[StoredFile],
        progress: Progress,
        is_over: Callable[[], bool],
    ) -> None:
        missing = cached.missing(wanted)
        total = sum(file.size for file in wanted)
        done = total - sum(file.size for file in missing)
        self._free_space(cached, sum(file.size for file in missing))

        def advance(num_bytes: int) -> None:
            nonlocal done
            done += num_bytes
            progress(done, total)
            if is_over():
                raise FetchStopped

        for file in missing:
            try:
                cached.keep(file, self._storage, advance)
            except (FileNotFoundError, DamagedObject) as error:
                message = f"File {file.path} of model {name} is missing or damaged in storage"
                raise InvalidModelFolder(f"{message}. Remove the model, then add it again.") from error

    def _free_space(self, wanted: "CachedModel", needed: int) -> None:
        """Remove the least recently used models until the rest fits the limits. Raises OSError (ENOSPC) if disk space
        is still short."""
        self._place.mkdir(parents=True, exist_ok=True)
        needed = 0 if self._storage.links(self._place) else needed
        others = [
            CachedModel(self._place, path.stem) for path in self._place.glob("*.lock") if path.stem != wanted.digest
        ]
        for other in sorted(others, key=lambda other: other.used_at):
            if not self._is_short(needed):
                return
            if other.remove():
                log.info("removed a model from the cache", model=other.digest)
        if (free := free_bytes(self._place)) < needed + LEAST_FREE_BYTES:
            message = f"the model needs {needed / GB:,.1f} GB, but {self._place} has {free / GB:,.1f} GB free"
            raise OSError(errno.ENOSPC, message)

    def _is_short(self, needed: int) -> bool:
        used = sum(size_of(path) for path in self._place.glob("*/*"))
        too_much = self._limit is not None and used + needed > self._limit
        return too_much or free_bytes(self._place) < needed + LEAST_FREE_BYTES


class CachedModel:
    """Manages a model's folder, with its locks and marks."""

    def __init__(self, place: Path, digest: str) -> None:
        self.digest, self.folder = digest, place / digest
        self.lock, self.fetch_lock, self.marks = (place / f"{digest}.{end}" for end in ("lock", "fetching", "marks"))

    @property
    def used_at(self) -> float:
        try:
            return self.lock.stat().st_mtime
        except FileNotFoundError:
            return 0

    def missing(self, files: Sequence[StoredFile]) -> list[StoredFile]:
        return [file for file in files if not self._is_kept(file)]

    def _is_kept(self, file: StoredFile) -> bool:
        try:
            return (self.marks / file.path).read_text() == mark_of(self.folder / file.path)
        except FileNotFoundError:
            return False

    def keep(self, file: StoredFile, storage: Storage, advance: Callable[[int], None]) -> None:
        for folder in (self.folder, self.marks):
            folder.mkdir(exist_ok=True)
        partial = self.folder / f".partial-{file.path}"
        partial.unlink(missing_ok=True)
        storage.fetch(file, partial, advance=advance, link=True)
        with around("keep_model_file"):
            partial.replace(self.folder / file.path)
        (self.marks / file.path).write_text(mark_of(self.folder / file.path))

    def remove(self) -> bool:
        """Remove the model; return False if a process is reading it."""
        with suppress(FetchStopped), hold_lock(self.lock, lambda: True):
            for folder in (self.marks, self.folder):
                shutil.rmtree(folder, ignore_errors=True)
            self.fetch_lock.unlink(missing_ok=True)
            self.lock.unlink()
            return True
        return False


def size_of(path: Path) -> int:
    """Return the bytes that removal would free: none if the file is a hard link to an object of the store."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    return found.st_size if found.st_nlink == 1 else 0


def digest_of(files: Sequence[StoredFile]) -> str:
    """Return the digest of a set of files. Models with the same files share a folder, even under different names."""
    lines = sorted(f"{file.sha256}  {file.path}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:32]


def mark_of(path: Path) -> str:
    """Return a string that changes whenever the file changes."""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"


@contextmanager
def hold_lock(path: Path, is_over: Callable[[], bool], *, shared: bool = False) -> Iterator[None]:
    """Hold the lock. Raises FetchStopped if another process holds it when `is_over` returns true."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while (file := open_locked(path, wait=False, shared=shared)) is None:
        if is_over():
            raise FetchStopped
        time.sleep(TICK_SECONDS)
    try:
        yield
    finally:
        os.close(file)
