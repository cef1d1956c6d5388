"""Manages the local folders of attempts, `work/{project}/{job}/{attempt}`, and of inspections,
`work/inspections/{dataset}-{random}`: who owns them, and which are abandoned.

The process that works in a folder holds a lock on `{name}.lock` next to it, which the kernel releases when the process
ends for any reason. A folder whose lock is free was therefore left by a killed worker, even where several workers share
the data folder."""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.files import open_locked
from app.jobs.queue.repository import Claim


def attempt_folder(work: Path, claim: Claim) -> Path:
    return work / claim.project_id / claim.job_id / str(claim.attempt)


def inspection_folder(work: Path, dataset_id: str) -> Path:
    """Return a new folder for each call: a worker that was suspended may still use its earlier one."""
    return work / "inspections" / f"{dataset_id}-{secrets.token_hex(4)}"


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Create and lock an empty folder. The caller removes the folder, unless its files are still needed."""
    lock = _lock(folder, wait=True)
    assert lock is not None
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield
    finally:
        _unlock(folder, lock)


def find_abandoned_attempts(work: Path) -> Iterator[Path]:
    """Yield the folders of attempts whose process has ended. Each stays locked until the next is requested."""
    return _abandoned(path for path in _folders(work.glob("*/ftjob-*")) if path.name.isdigit())


def find_abandoned_of_project(work: Path, project_id: str) -> Iterator[Path]:
    """Yield the abandoned folders of one project."""
    return _abandoned(path for path in _folders((work / project_id).glob("ftjob-*")) if path.name.isdigit())


def find_abandoned_inspections(work: Path) -> Iterator[Path]:
    return _abandoned(_folders([work / "inspections"]))


def _abandoned(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        lock = _lock(folder, wait=False)
        if lock is None:
            continue
        try:
            if folder.is_dir():
                yield folder
        finally:
            _unlock(folder, lock)


def _folders(parents: Iterable[Path]) -> list[Path]:
    """Return all folders, including those of which only the lock file exists."""
    found = set()
    for parent in parents:
        try:
            found |= {path.with_suffix("") for path in parent.iterdir()}
        except FileNotFoundError:
            continue  # Another worker removed it first.
    return sorted(found)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """Return the open lock file; None if another process holds it."""
    path = folder.with_suffix(".lock")
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return open_locked(path, wait=wait)
        except (FileNotFoundError, FileExistsError):
            if path.parent.is_file():
                raise
            continue  # The job's folder was removed because it was empty.


def _unlock(folder: Path, lock: int) -> None:
    """Remove the lock file while it is held and the folder does not exist, so that no other process can hold it for an
    existing folder."""
    if not folder.exists():
        folder.with_suffix(".lock").unlink()
    os.close(lock)
    try:
        folder.parent.rmdir()
    except OSError:
        return  # It holds another attempt's files.
