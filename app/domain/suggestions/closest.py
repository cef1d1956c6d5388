"""Suggests the closest known name for an unknown one."""

from collections.abc import Iterable
from difflib import get_close_matches

CUTOFF = 0.7


def find_closest(name: str, known: Iterable[str], cutoff: float = CUTOFF) -> str | None:
    """Find the closest known name. Capitals and hyphens make no difference."""
    by_form = {_form(each): each for each in known}
    found = get_close_matches(_form(name[:100]), by_form, n=1, cutoff=cutoff)
    return by_form[found[0]] if found else None


def advise(meant: Iterable[str]) -> str:
    """Return the end of a message: the suggested names, or that the name must be removed."""
    named = [repr(each) for each in meant]
    *others, last = named or [""]
    return f"did you mean {', '.join(others) + ' or ' if others else ''}{last}?" if named else "remove it."


def _form(name: str) -> str:
    return name.lower().replace("-", "_")
