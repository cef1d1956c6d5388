"""File names that users give, as labels."""

import re
from typing import Final

MAX_FILENAME_CHARS: Final = 255


def is_unsafe_filename(filename: str) -> bool:
    """Whether its name has what `clean_filename` takes out because it does not print: a mark that turns the direction
    of writing, say, which makes one kind of file look like another."""
    return not _base_name(filename).isprintable()


def clean_filename(filename: str) -> str:
    """A label: the base name, without what does not print; never a path."""
    label = "".join(character for character in _base_name(filename) if character.isprintable())
    return label.strip()[:MAX_FILENAME_CHARS].strip() or "dataset"


def _base_name(filename: str) -> str:
    parts = [part for part in re.split(r"[/\\]", filename) if part.strip(" .")]
    return parts[-1] if parts else ""
