"""Copies a model's files into storage: claim → resolve → store file by file → read the facts → conclude.

This is done by a light worker, or by `tunewright models add` on the server's machine. Bytes are copied outside any
transaction. After a crash the lease expires; the next process that claims the model finds the files that are already
stored.
"""

import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from app.db.session import Sessions, transaction
from app.db.tables import RegisteredModel
from app.domain.artifact import StoredFile
from app.domain.ids import new_id
from app.domain.model import ModelFailure, ModelState
from app.domain.storage_keys import model_file_key
from app.errors import InvalidModelFolder, StaleAttempt, StorageFull
from app.files import free_bytes, is_full
from app.models.fetch_repository import FetchRepository, Hold
from app.models.folder import read_folder, revision_of
from app.models.hub import HubSource
from app.models.licence import read_licence
from app.models.sources import FetchFailed, FolderSource, ModelSource, ResolvedSource, SourceFile
from app.secrets.redaction import redact_error
from app.storage import Storage

log = structlog.get_logger()

LEAST_FREE_BYTES = 32 * 10**6
RENEWALS_A_LEASE = 6


def open_source(source: str, revision: str | None, roots: Sequence[Path] | None, work: Path) -> ModelSource:
    """Open the source. A folder must lie below one of `roots`, or anywhere if `roots` is None."""
    return FolderSource(Path(source), roots) if source.startswith("/") else HubSource(source, revision or "main", work)


class FetchPlace(NamedTuple):
    """Holds what fetching needs from its worker."""

    worker_id: str
    sessions: Sessions
    storage: Storage
    work: Path
    lease_seconds: float
    roots: tuple[Path, ...]
    """Lists the folders below which a folder requested over HTTP must lie."""


class FetchInterrupted(Exception):
    """This process must stop; another one continues."""


def fetch_next(place: FetchPlace, draining: threading.Event, id: str | None = None) -> bool:
    """Fetch one pending model, or the one with this id. Return whether there was one.

    Errors of the store and of PostgreSQL propagate: the lease expires, and the model is fetched again.
    """
    with transaction(place.sessions, "claim_model") as session:
        model = FetchRepository(session).claim(place.worker_id, place.lease_seconds, id)
    if model is None:
        return False
    ModelFetch(place, model, draining).run()
    return True


class ModelFetch:
    """Represents one attempt to fetch one model."""

    def __init__(self, place: FetchPlace, model: RegisteredModel, draining: threading.Event) -> None:
        self.place, self.model, self.draining = place, model, draining
        self.hold = Hold(model.id, model.attempt, place.lease_seconds)
        self.folder = place.work / "models" / new_id("model")
        self.files: list[StoredFile] = []
        self.num_done, self.num_bytes = 0, 0
        self.renewed_at = time.monotonic()

    def run(self) -> None:
        try:
            self._run()
        except FetchInterrupted:
            log.info("released a model fetch", model=self.model.name)
            with transaction(self.place.sessions, "give_back_model") as session:
                FetchRepository(session).give_back(self.hold)
        except StaleAttempt:
            log.info("model was removed, or another worker fetches it", model=self.model.name)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self) -> None:
        try:
            values = self._fetch()
        except FetchFailed as error:
            self._fail(error.code, str(error))
        except InvalidModelFolder as error:
            self._fail(ModelFailure.invalid_model_folder, str(error))
        except (StorageFull, OSError) as error:
            if not (isinstance(error, StorageFull) or is_full(error)):
                raise
            text = f"Not enough disk space for the model. Free space, then add it again. {redact_error(error)}"
            self._fail(ModelFailure.disk_full, text)
        else:
            with transaction(self.place.sessions, "conclude_model") as session:
                FetchRepository(session).conclude(self.hold, ModelState.ready, **values)

    def _fail(self, code: ModelFailure, message: str) -> None:
        log.warning("model fetch failed", model=self.model.name, code=code, error=message)
        with transaction(self.place.sessions, "fail_model") as session:
            failure = {"failure_code": code, "failure_message": message[:2000].replace("\0", "\ufffd")}
            FetchRepository(session).conclude(self.hold, ModelState.failed, **failure)

    def _fetch(self) -> dict[str, Any]:
        """Fetch the files and return the model's facts."""
        roots = None if self.model.any_path else self.place.roots
        source = open_source(self.model.source, self.model.revision or self.model.wanted_revision, roots, self.folder)
        found = source.resolve()
        self._check_disk_space(source, found)
        self.num_bytes = sum(file.size for file in found.files)
        self._renew(num_bytes=self.num_bytes, **({"revision": found.revision} if found.revision else {}))
        for file in found.files:
            self.files.append(self._store(source, file))
        facts = read_folder(source.folder)
        licence = read_licence(source.folder, found.licence)
        return {
            "revision": found.revision or revision_of(self.files),
            "files": [file.model_dump() for file in self.files],
            "num_bytes_done": self.num_done,
            **licence._asdict(),
            **facts._asdict(),
        }

    def _check_disk_space(self, source: ModelSource, found: ResolvedSource) -> None:
        """Check the disk space before any byte is copied. A folder on the storage's own disk needs none."""
        stored = self.place.storage
        sizes = [file.size for file in found.files]
        needs = []
        if stored.root is not None and not (isinstance(source, FolderSource) and stored.links(source.folder)):
            needs.append((stored.root, sum(sizes)))
        if not isinstance(source, FolderSource):
            needs.append((self.folder, max(sizes, default=0)))
        for folder, needed in needs:
            if (free := free_bytes(folder)) < needed + LEAST_FREE_BYTES:
                message = (
                    f"The model needs {needed / 1e9:,.1f} GB, but {folder} has {free / 1e9:,.1f} GB free. Free space, "
                    "then add it again."
                )
                raise FetchFailed(ModelFailure.disk_full, message)

    def _store(self, source: ModelSource, file: SourceFile) -> StoredFile:
        done = self.num_done
        if file.sha256 is not None and (stored := self._find(file, file.sha256)):
            source.adopt(file, stored, self.place.storage)
        else:
            path, sha256 = source.provide(file, self._advance)
            stored = self._find(file, sha256) or self._put(file, path, sha256)
            source.settle(file)
        self.num_done = done + file.size
        self._renew()
        return stored

    def _find(self, file: SourceFile, sha256: str) -> StoredFile | None:
        """Return the file if storage has it. It is named before the check, so that it is not removed afterwards."""
        stored = StoredFile(path=file.path, key=model_file_key(sha256), size=file.size, sha256=sha256)
        with transaction(self.place.sessions, "name_model_file") as session:
            FetchRepository(session).name_files(self.hold, [*self.files, stored])
        return stored if self.place.storage.size_of(stored.key) == file.size else None

    def _put(self, file: SourceFile, path: Path, sha256: str) -> StoredFile:
        stored = self.place.storage.keep_file(model_file_key(sha256), path, file.path, sha256, self._check_lease)
        if stored is None:
            message = f"{file.path} changed while it was read; do not change the folder, then add the model again."
            raise FetchFailed(ModelFailure.source_changed, message)
        return stored

    def _advance(self, num_bytes: int) -> None:
        self.num_done += num_bytes
        self._check_lease(num_bytes)

    def _check_lease(self, _: int) -> None:
        """Check between two blocks that the lease is still held and that the process need not stop."""
        if self.draining.is_set():
            raise FetchInterrupted
        if time.monotonic() - self.renewed_at > min(self.place.lease_seconds / RENEWALS_A_LEASE, 1.0):
            self._renew()

    def _renew(self, **values: Any) -> None:
        with transaction(self.place.sessions, "renew_model") as session:
            FetchRepository(session).renew(self.hold, num_bytes_done=self.num_done, **values)
        self.renewed_at = time.monotonic()
