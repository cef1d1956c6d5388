"""Defines where a model's files come from: a folder, or the hub."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from app.domain.artifact import StoredFile
from app.domain.model import ModelFailure
from app.errors import InvalidModelFolder
from app.models.folder import LOADED
from app.storage import CHUNK_BYTES, Storage

HUB_ID = re.compile(r"(?!.*(?:--|\.\.|\.git$))\b[\w.-]{1,96}\b/\b[\w.-]{1,96}\b", re.ASCII)
"""Equals the pattern of the hub's own client."""
COMMIT = re.compile(r"[0-9a-f]{40}")
Advance = Callable[[int], None]
"""Is called with the size of each block."""


class FetchFailed(Exception):
    def __init__(self, code: ModelFailure, message: str) -> None:
        super().__init__(message)
        self.code = code


class SourceFile(NamedTuple):
    path: str
    size: int
    sha256: str | None = None
    """Is the digest that the hub reports, if any."""


class ResolvedSource(NamedTuple):
    files: Sequence[SourceFile]
    revision: str | None = None
    """Is the commit of the hub; a folder's revision is computed from its files."""
    licence: str | None = None
    """Is the licence id that the hub reports."""


class ModelSource(Protocol):
    folder: Path
    """Names the folder in which the model's facts can be read once all files were provided."""

    def resolve(self) -> ResolvedSource: ...

    def provide(self, file: SourceFile, advance: Advance) -> tuple[Path, str]:
        """Return the path of the file on this machine, and its digest."""

    def adopt(self, file: SourceFile, stored: StoredFile, storage: Storage) -> None:
        """Skip the file, because storage has it."""

    def settle(self, file: SourceFile) -> None:
        """Release the provided file, because storage has it."""


class FolderSource:
    """Reads a folder of this machine; the files stay where they are."""

    def __init__(self, folder: Path, roots: Sequence[Path] | None) -> None:
        self.folder, self._roots = folder, roots

    def resolve(self) -> ResolvedSource:
        real = self.folder.resolve()
        if self._roots is not None and not any(real.is_relative_to(root.resolve()) for root in self._roots):
            raise FetchFailed(ModelFailure.path_not_allowed, not_allowed(self.folder, self._roots))
        if not real.is_dir():
            raise InvalidModelFolder(
                f"No such folder on the worker's machine: {self.folder}; pass one that it can read."
            )
        paths = [path for path in sorted(real.iterdir()) if path.suffix in LOADED and path.is_file()]
        return ResolvedSource([SourceFile(path.name, path.stat().st_size) for path in paths])

    def provide(self, file: SourceFile, advance: Advance) -> tuple[Path, str]:
        path, digest = self.folder / file.path, hashlib.sha256()
        with path.open("rb") as opened:
            while block := opened.read(CHUNK_BYTES):
                digest.update(block)
                advance(len(block))
        return path, digest.hexdigest()

    def adopt(self, file: SourceFile, stored: StoredFile, storage: Storage) -> None:
        raise AssertionError("the digests of a folder's files are known only after they are read")

    def settle(self, file: SourceFile) -> None:
        """Keep the file where it is."""


def not_allowed(folder: Path, roots: Sequence[Path]) -> str:
    allowed = ", ".join(map(str, roots)) or "none: TUNEWRIGHT_MODEL_ROOTS is not set"
    return f"{folder} is not below a folder from which models may be added over HTTP ({allowed})."
