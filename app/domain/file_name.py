"""Cleans file names that users give, for use as labels."""

import re
from typing import Final

MAX_FILENAME_CHARS: Final = 255


def is_unsafe_filename(filename: str) -> bool:
    """Say whether the name has characters that `clean_filename` removes because they are not printable: for
    example a mark that changes the writing direction, which makes one file type look like another."""
    return not _base_name(filename).isprintable()


def clean_filename(filename: str) -> str:
    """Return a label: the base name without non-printable characters. It is never a path."""
    label = "".join(character for character in _base_name(filename) if character.isprintable())
    return label.strip()[:MAX_FILENAME_CHARS].strip() or "dataset"


def _base_name(filename: str) -> str:
    parts = [part for part in re.split(r"[/\\]", filename) if part.strip(" .")]
    return parts[-1] if parts else ""
