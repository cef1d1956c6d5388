"""File names that users give, as labels."""

import re
from typing import Final

MAX_FILENAME_CHARS: Final = 255


def clean_filename(filename: str) -> str:
    """A label: the base name, without what does not print; never a path."""
    parts = [part for part in re.split(r"[/\\]", filename) if part.strip(" .")]
    label = "".join(character for character in parts[-1] if character.isprintable()) if parts else ""
    return label.strip()[:MAX_FILENAME_CHARS].strip() or "dataset"
