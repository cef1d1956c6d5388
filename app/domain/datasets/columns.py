"""Maps keys of a file's rows to the fields that training reads: `{"prompt": "input"}`."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import islice
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from app.domain.datasets.formats import KEYS, READ_TOO, RecordFormat
from app.domain.suggestions.row_keys import meant_by

TARGETS: Final = frozenset().union(*(keys for sets in KEYS.values() for keys in sets), *READ_TOO.values()) - {
    "functions"
}
MAX_COLUMNS: Final = 16
MAX_KEYS: Final = 16
MAX_KEY_CHARS: Final = 40


def _check_columns(columns: dict[str, str]) -> dict[str, str]:
    for target, source in columns.items():
        if target not in TARGETS:
            meant = meant_by(target, TARGETS)
            advice = f"did you mean {meant!r}?" if meant else f"use one of {sorted(TARGETS)}."
            message = f"Unknown field {target!r:.80}; {advice}"
            raise PydanticCustomError("unknown_field", "{message}", {"message": message})
        if not source.isprintable():
            raise PydanticCustomError("unprintable", "A column name has non-printable characters; rename the column.")
    if len(set(columns.values())) < len(columns):
        raise PydanticCustomError("duplicate_field", "A column is mapped to two fields; map it to one.")
    return columns


Columns = Annotated[
    dict[str, Annotated[str, StringConstraints(min_length=1, max_length=100)]],
    Field(min_length=1, max_length=MAX_COLUMNS),
    AfterValidator(_check_columns),
]
"""Maps the field that is read to the file's name for it."""


def meant_columns(keys: Iterable[str], formats: Iterable[RecordFormat] = tuple(KEYS)) -> dict[str, str] | None:
    """Guess the mapping of a row's keys, by the format that needs the fewest renames."""
    some = tuple(key for key in islice(keys, MAX_KEYS) if len(key) <= MAX_KEY_CHARS)
    found = (_meant_as(some, needed) for format in formats for needed in KEYS[format])
    return min((columns for columns in found if columns), key=len, default=None)


@lru_cache(maxsize=1024)
def _meant_as(keys: tuple[str, ...], needed: frozenset[str]) -> dict[str, str] | None:
    """Match each needed key that a row lacks with one of the row's keys. Returns None if one has no match."""
    others = [key for key in keys[:MAX_KEYS] if key not in needed]
    found = dict[str, str]()
    for target in sorted(needed.difference(keys)):
        source = next((key for key in others if key not in found.values() and meant_by(key, (target,))), None)
        if source is None:
            return None
        found[target] = source
    return found


def advise(columns: Mapping[str, str]) -> str:
    """Explain how to rename or map the keys."""
    guesses = " ".join(f"Unknown field {source!a}; did you mean {target!a}?" for target, source in columns.items())
    mapped = json.dumps(dict(columns))
    options = " ".join(f"--map {target}={source}" for target, source in columns.items())
    return f"{guesses} Rename it in the file, or map it: columns {mapped}, or {options} on the command line."
