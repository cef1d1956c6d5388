"""The local folders of attempts, `work/{project}/{job}/{attempt}`, and of inspections,
`work/inspections/{dataset}-{random}`: whose they are, and which are nobody's any more.

Whoever works in one holds a lock on `{name}.lock` beside it, which the kernel drops with the process, however that
ends. So a folder whose lock can be had is what a killed worker left, even where several workers share the data folder.
"""

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
    """Another one each time: a worker that was stopped for long may still be in its own."""
    return work / "inspections" / f"{dataset_id}-{secrets.token_hex(4)}"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """An attempt's folder is there, empty at first. The attempt removes it, unless what is in it is still wanted."""
    lock = _lock(folder, wait=True)
    assert lock is not None
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield
    finally:
        _unlock(folder, lock)


def abandoned(work: Path) -> Iterator[Path]:
    """Folders of attempts whose process is gone, each kept from others until the next is asked for."""
    return _abandoned(path for path in _folders(work.glob("*/ftjob-*")) if path.name.isdigit())


def abandoned_of_project(work: Path, project_id: str) -> Iterator[Path]:
    """As `abandoned`, of one project alone."""
    return _abandoned(path for path in _folders((work / project_id).glob("ftjob-*")) if path.name.isdigit())


def abandoned_inspections(work: Path) -> Iterator[Path]:
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
    """Also those of which only the lock file is there."""
    found = set()
    for parent in parents:
        try:
            found |= {path.with_suffix("") for path in parent.iterdir()}
        except FileNotFoundError:
            continue  # Another worker was faster.
    return sorted(found)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """The open lock file; None if another process has it."""
    path = folder.with_suffix(".lock")
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return open_locked(path, wait=wait)
        except (FileNotFoundError, FileExistsError):
            if path.parent.is_file():
                raise
            continue  # The job's folder was empty and went.


def _unlock(folder: Path, lock: int) -> None:
    """The lock file goes while it is held, so that nobody can have locked it for a folder that is there."""
    if not folder.exists():
        folder.with_suffix(".lock").unlink()
    os.close(lock)
    try:
        folder.parent.rmdir()
    except OSError:
        return  # Another attempt's things are in it.
