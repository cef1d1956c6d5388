"""Folders as one file."""

import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from app.domain.artifact import ADAPTER_ARCHIVE
from worker.processes.child_files import ChildFiles

ADAPTER_FILES: Final = ("adapter_config.json", "adapter_model.safetensors")
"""What PEFT loads, and all that a checkpoint has of an adapter's folder. They are stored as one file, to be downloaded
and to go on from."""


def write_archive(target: Path, files: ChildFiles, folder: Path, names: Iterable[str]) -> None:
    """A tar file whose bytes depend on those of the folder's files alone."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            with files.opened(folder / name) as content:
                entry = tarfile.TarInfo(name)
                entry.size = os.fstat(content.fileno()).st_size
                archive.addfile(entry, content)


def unpack_adapter(checkpoint: Path) -> None:
    """Give a checkpoint from storage the files that training reads."""
    archive = checkpoint / ADAPTER_ARCHIVE
    if archive.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(checkpoint, filter="data")
        archive.unlink()
