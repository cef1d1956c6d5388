"""Parses labels: `key=value` words by which operators group workers, and jobs and projects select them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
"""Matches a key or a value, as Kubernetes allows in a label's value."""
RULE: Final = (
    "a key and a value are 1 to 63 letters, digits, '.', '_' and '-', and begin and end with a letter or digit"
)


def read_labels(text: str) -> dict[str, str]:
    """Parse the labels of a worker: `pool=a,gpu=4090`. Raise ValueError that names an invalid word."""
    labels: dict[str, str] = {}
    for key, value in _pairs(text):
        if key in labels:
            raise ValueError(f"the label {key!r} is given twice; a worker has one value per label")
        labels[key] = value
    return labels


def read_allowed_labels(text: str) -> dict[str, list[str]]:
    """Parse the labels of a project: a key may have several values, `pool=a,pool=b`."""
    allowed: dict[str, list[str]] = {}
    for key, value in _pairs(text):
        allowed.setdefault(key, []).append(value)
    return {key: sorted(set(values)) for key, values in allowed.items()}


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for word in filter(None, map(str.strip, text.split(","))):
        key, _, value = word.partition("=")
        if not (re.fullmatch(LABEL, key) and re.fullmatch(LABEL, value)):
            raise ValueError(f"{word!r} is not a label; use the form pool=a,gpu=4090: {RULE}")
        yield key, value


def show_labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def show_allowed_labels(allowed: Mapping[str, Sequence[str]]) -> str:
    """Format the labels as `pool=a or pool=b, zone=x`."""
    choices = (" or ".join(f"{key}={value}" for value in values) for key, values in sorted(allowed.items()))
    return ", ".join(choices)
