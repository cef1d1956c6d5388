"""Records each file's size and SHA-256, by which a folder is verified."""

import hashlib
from pathlib import Path
from typing import Any


def digests(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the size and SHA-256 of every file, by name."""
    return {path.name: _digest(path) for path in sorted(folder.iterdir())}


def first_fault(folder: Path, expected: dict[str, dict[str, Any]]) -> str | None:
    """Return the name and fault of a file that is missing or differs from `expected`."""
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _digest(path) != digest:
            return f"{name} does not match the size and SHA-256 in the manifest"
    return None


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
