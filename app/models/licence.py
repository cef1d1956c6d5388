"""Reads a model's licence: its id from the model's card, its text from a file."""

import re
from pathlib import Path
from typing import NamedTuple

FILES = ("LICENSE", "LICENCE", "COPYING", "USE_POLICY", "NOTICE")
CARD = "README.md"
MAX_CHARS = 200_000
MAX_CARD_CHARS = 1_000_000
FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
FIELD = re.compile(r"^(license|license_name):\s*[\"']?([^\"'\n#]+?)[\"']?\s*$", re.MULTILINE)


class Licence(NamedTuple):
    license: str | None
    """Holds the licence's id, such as `apache-2.0` or `gemma`."""
    license_text: str | None


def is_licence(name: str) -> bool:
    return name == CARD or _is_text(name)


def read_licence(folder: Path, known: str | None = None) -> Licence:
    """Read the licence. `known` is its id if the hub reported it."""
    texts = [_read(path, MAX_CHARS) for path in sorted(folder.iterdir()) if path.is_file() and _is_text(path.name)]
    card = folder / CARD
    found = _of_card(_read(card, MAX_CARD_CHARS)) if card.is_file() else {}
    id = found.get("license_name") if found.get("license") in (None, "other") else found.get("license")
    return Licence((id or found.get("license") or known or None), "\n\n".join(texts)[:MAX_CHARS] or None)


def _is_text(name: str) -> bool:
    return name.upper().split(".")[0].startswith(FILES)


def _of_card(text: str) -> dict[str, str]:
    front = FRONT.search(text.replace("\r\n", "\n"))
    return dict(FIELD.findall(front[1])) if front else {}


def _read(path: Path, limit: int) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(limit).replace("\0", "\ufffd")
