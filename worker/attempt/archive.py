"""Writes and unpacks tar archives of adapter folders."""

import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from app.domain.artifact import ADAPTER_ARCHIVE
from worker.processes.child_files import ChildFiles

ADAPTER_FILES: Final = ("adapter_config.json", "adapter_model.safetensors")
"""PEFT loads these files, and a checkpoint holds no other adapter files. They are stored as one archive, for downloads
and for resuming."""


def write_archive(target: Path, files: ChildFiles, folder: Path, names: Iterable[str]) -> None:
    """Write a tar file whose bytes depend only on the contents of the folder's files."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            with files.opened(folder / name) as content:
                entry = tarfile.TarInfo(name)
                entry.size = os.fstat(content.fileno()).st_size
                archive.addfile(entry, content)


def unpack_adapter(checkpoint: Path) -> None:
    """Unpack a stored checkpoint's adapter archive into the files that training reads."""
    archive = checkpoint / ADAPTER_ARCHIVE
    if archive.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(checkpoint, filter="data")
        archive.unlink()
