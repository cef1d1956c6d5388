"""Fetches models from a hub: resolves a branch to its commit, then downloads the commit's files one by one.

The hub's address, token, proxy and offline mode come from the variables of the hub's own tools, which are read once
when the process starts: HF_ENDPOINT, HF_TOKEN, HTTPS_PROXY, HF_HUB_OFFLINE. The token is sent only to the hub and is
never logged.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from app.domain.artifact import StoredFile
from app.domain.model import ModelFailure
from app.errors import InvalidModelFolder
from app.jitter import jittered
from app.models.headers import INDEX, SINGLE, read_index
from app.models.licence import is_licence
from app.models.sources import Advance, FetchFailed, ResolvedSource, SourceFile
from app.storage import Storage

LOADED = (".json", ".model", ".txt", ".jinja")
WEIGHTS = ".safetensors"
REACH_SECONDS = 3.5
"""Limits the time until the hub answers the first question."""
CONNECT_SECONDS = 3.0
SILENT_SECONDS = 30.0
TRIES = 5
"""Limits the tries for one file; each try resumes where the last one failed."""
WAIT_SECONDS = 1.0
BLOCK_BYTES = 2**20

T = TypeVar("T")


class HubSource:
    """Reads a repository at one revision. `folder` receives its small files and only the headers of its weights: each
    weights file is deleted from the disk once storage has it."""

    def __init__(self, id: str, revision: str, folder: Path) -> None:
        self.id, self.asked, self.folder = id, revision, folder
        self.commit = ""
        self._hub = import_hub()
        self._local: Path | None = None
        """Points to a copy in the hub's own cache, if the hub must not be contacted."""

    def resolve(self) -> ResolvedSource:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._hub.constants.is_offline_mode():
            return self._resolve_offline()
        info = run_within(REACH_SECONDS, self._ask_info, self._unreachable)
        self.commit = info.sha
        files = [
            SourceFile(each.rfilename, each.size or 0, each.lfs.sha256 if each.lfs else None)
            for each in info.siblings or []
            if "/" not in each.rfilename
        ]
        licence = getattr(info.card_data, "license", None)
        return ResolvedSource(self._choose_files(files), self.commit, licence if isinstance(licence, str) else None)

    def _ask_info(self) -> Any:
        with self._translated_errors():
            timeout: Any = _timeout(CONNECT_SECONDS)
            return self._hub.HfApi().model_info(self.id, revision=self.asked, timeout=timeout, files_metadata=True)

    def _resolve_offline(self) -> ResolvedSource:
        """Resolve from the cache of the hub's own tools (HF_HOME), which an operator has filled."""
        try:
            found = self._hub.snapshot_download(self.id, revision=self.asked, local_files_only=True)
        except Exception as error:
            message = (
                f"HF_HUB_OFFLINE is set, and this machine's hub cache has no {self.id} at {self.asked}. "
                f"Download it to {self._hub.constants.HF_HUB_CACHE}, or unset HF_HUB_OFFLINE."
            )
            raise FetchFailed(ModelFailure.hub_offline, message) from error
        self._local = Path(found)
        self.commit = self._local.name
        files = [SourceFile(path.name, path.stat().st_size) for path in sorted(self._local.iterdir()) if path.is_file()]
        return ResolvedSource(self._choose_files(files), self.commit)

    def _choose_files(self, files: list[SourceFile]) -> list[SourceFile]:
        """Return the files that a load reads, the small ones first. Weights that the index does not name belong to
        another format."""
        names = {file.path for file in files}
        small = [file for file in files if file.path.endswith(LOADED) or is_licence(file.path)]
        weights = {SINGLE}
        if index := next((file for file in small if file.path == INDEX), None):
            self.provide(index, lambda _: None)
            weights = set(read_index(self.folder / INDEX))
        missing = weights - names
        if missing:
            raise InvalidModelFolder(
                f"{self.id} has no {min(missing)}; only models with safetensors weights can be trained."
            )
        return small + sorted(file for file in files if file.path in weights)

    def provide(self, file: SourceFile, advance: Advance) -> tuple[Path, str]:
        target = self.folder / file.path
        blocks = self._read_local(file) if self._local else self._download(file)
        digest, size = hashlib.sha256(), 0
        with target.open("wb") as out:
            for block in blocks:
                out.write(block)
                digest.update(block)
                size += len(block)
                advance(len(block))
        sha256 = digest.hexdigest()
        if size != file.size or file.sha256 not in (None, sha256):
            message = (
                f"The download of {file.path} of {self.id} ({size:,} bytes, SHA-256 {sha256}) does not match the hub; "
                "add the model again."
            )
            raise FetchFailed(ModelFailure.corrupt_download, message)
        return target, sha256

    def _read_local(self, file: SourceFile) -> Iterator[bytes]:
        assert self._local is not None
        with (self._local / file.path).open("rb") as source:
            yield from iter(lambda: source.read(BLOCK_BYTES), b"")

    def _download(self, file: SourceFile) -> Iterator[bytes]:
        """Download the file. An interrupted download resumes where it stopped."""
        start, tries = 0, 0
        while True:
            try:
                for block in self._stream(file, start):
                    start, tries = start + len(block), 0
                    yield block
                return
            except FetchFailed as error:
                tries += 1
                if error.code is not ModelFailure.hub_unreachable or tries == TRIES:
                    raise
                threading.Event().wait(jittered(WAIT_SECONDS))

    def _stream(self, file: SourceFile, start: int) -> Iterator[bytes]:
        hub = self._hub
        headers = hub.utils.build_hf_headers() | {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        url = hub.hf_hub_url(self.id, file.path, revision=self.commit, endpoint=hub.constants.ENDPOINT)
        session = hub.utils.get_session()
        timeout = _timeout(SILENT_SECONDS)
        with self._translated_errors(), session.stream("GET", url, headers=headers, timeout=timeout) as got:
            hub.utils.hf_raise_for_status(got)
            if start and got.status_code != 206:
                raise FetchFailed(ModelFailure.corrupt_download, f"The hub cannot resume the download of {file.path}.")
            yield from got.iter_raw()

    def adopt(self, file: SourceFile, stored: StoredFile, storage: Storage) -> None:
        if file.path.endswith(WEIGHTS):
            length = int.from_bytes(b"".join(storage.read(stored.key, 0, 8)), "little")
            head = b"".join(storage.read(stored.key, 0, min(8 + length, stored.size)))
            write_hollow(self.folder / file.path, head, stored.size)
        else:
            storage.fetch(stored, self.folder / file.path)

    def settle(self, file: SourceFile) -> None:
        path = self.folder / file.path
        if file.path.endswith(WEIGHTS):
            with path.open("rb") as whole:
                start = whole.read(8)
                head = start + whole.read(min(int.from_bytes(start, "little"), file.size))
            write_hollow(path, head, file.size)

    def _unreachable(self) -> FetchFailed:
        message = f"The hub {self._hub.constants.ENDPOINT} did not respond in time; check HF_ENDPOINT and HTTPS_PROXY."
        return FetchFailed(ModelFailure.hub_unreachable, message)

    def _translated_errors(self) -> "_TranslatedErrors":
        return _TranslatedErrors(self)


class _TranslatedErrors:
    """Converts errors of the hub's client to one sentence and a code."""

    def __init__(self, source: HubSource) -> None:
        self.source = source

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, FetchFailed) or not isinstance(error, Exception):
            return
        raise self._failure(error) from error

    def _failure(self, error: Exception) -> FetchFailed:
        import httpx2

        errors, id = self.source._hub.errors, self.source.id
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.GatedRepoError) or status == 403:
            message = (
                f"{id} is a gated model. Accept its terms on the hub, then set HF_TOKEN to a token of that account."
            )
            return FetchFailed(ModelFailure.access_denied, message)
        if isinstance(error, errors.RevisionNotFoundError):
            message = f"{id} has no branch, tag or commit {self.source.asked!r:.100}."
            return FetchFailed(ModelFailure.hub_revision_not_found, message)
        if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
            message = f"The hub has no model {id}, or this machine's HF_TOKEN cannot see it."
            return FetchFailed(ModelFailure.hub_model_not_found, message)
        if status == 401:
            return FetchFailed(ModelFailure.access_denied, f"The hub rejected this machine's HF_TOKEN for {id}.")
        if isinstance(error, httpx2.TimeoutException):
            return self.source._unreachable()
        why = f"returned status {status}" if status else f"cannot be reached ({type(error).__name__})"
        message = f"The hub {self.source._hub.constants.ENDPOINT} {why}; check HF_ENDPOINT and HTTPS_PROXY."
        return FetchFailed(ModelFailure.hub_unreachable, message)


def import_hub() -> Any:
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        message = "Models from the hub require the package huggingface_hub: pip install 'tunewright[worker]'."
        raise FetchFailed(ModelFailure.internal_error, message) from error
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return huggingface_hub


def run_within(seconds: float, ask: Callable[[], T], late: Callable[[], Exception]) -> T:
    """Return an answer within the time, or raise. Neither a name that does not resolve nor several addresses extend the
    time."""
    outcome: list[T | Exception] = []

    def run() -> None:
        try:
            outcome.append(ask())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="hub", daemon=True)
    thread.start()
    thread.join(seconds)
    answer = outcome[0] if outcome else late()
    if isinstance(answer, Exception):
        raise answer
    return answer


def write_hollow(path: Path, head: bytes, size: int) -> None:
    """Write a sparse file that occupies space only for its head. Other hard links of the old file keep its content."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)


def _timeout(seconds: float) -> Any:
    import httpx2

    return httpx2.Timeout(seconds, connect=CONNECT_SECONDS)
