"""Folders as one file."""

import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from app.domain.artifact import ADAPTER_ARCHIVE

ADAPTER_FILES: Final = ("adapter_config.json", "adapter_model.safetensors")
"""What PEFT loads, and all that a checkpoint has of an adapter's folder."""


def write_archive(folder: Path, target: Path) -> None:
    """A tar file whose bytes depend on those of the folder's files alone."""
    _write(target, folder, sorted(path for path in folder.rglob("*") if path.is_file()))


def pack_adapter(checkpoint: Path) -> None:
    """Put a checkpoint's adapter into one file, as which it is stored once, to be downloaded and to go on from.
    Nothing where there is none."""
    files = [checkpoint / name for name in ADAPTER_FILES]
    if all(file.exists() for file in files):
        _write(checkpoint / ADAPTER_ARCHIVE, checkpoint, files)
        for file in files:
            file.unlink()


def unpack_adapter(checkpoint: Path) -> None:
    """The way back."""
    archive = checkpoint / ADAPTER_ARCHIVE
    if archive.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(checkpoint, filter="data")
        archive.unlink()


def _write(target: Path, folder: Path, files: Iterable[Path]) -> None:
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            entry = tarfile.TarInfo(file.relative_to(folder).as_posix())
            entry.size = file.stat().st_size
            with file.open("rb") as content:
                archive.addfile(entry, content)
