"""A result's folder as one file."""

import tarfile
from pathlib import Path


def write_archive(folder: Path, target: Path) -> None:
    """A tar file whose bytes depend on those of the folder's files alone."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(file.relative_to(folder).as_posix())
            entry.size = file.stat().st_size
            with file.open("rb") as content:
                archive.addfile(entry, content)
