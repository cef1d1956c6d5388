"""Finds rows that two datasets share, from their sorted files of hashes (see `duplicates`).

The validation file is read in blocks; the training file is memory-mapped and searched by bisection. Memory use does not
grow with either file."""

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from app.domain.dataset_checks.overlap import OverlapTotals, Pair
from worker.inspection.duplicates import ENTRY_BYTES, EXACT, LINE, NORMALISED, Entries, entries


class Overlap(NamedTuple):
    totals: OverlapTotals
    pairs: list[Pair]
    """Lists the first pairs by the validation row's line."""


class DamagedHashes(OSError):
    """Raised when the file is not a sequence of whole entries."""


class Store(Protocol):
    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]: ...


def fetch_hashes(store: Store, key: str, path: Path) -> Path:
    with path.open("wb") as file:
        for chunk in store.read(key):
            file.write(chunk)
    if path.stat().st_size % ENTRY_BYTES:
        raise DamagedHashes(f"the hashes of {key} are truncated")
    return path


class OverlapResult(NamedTuple):
    """Holds the entries of a block whose texts are in the training file."""

    validation_lines: NDArray[np.uint64]
    lines: NDArray[np.uint64]
    exact: NDArray[np.bool_]


def find_overlap(training: Path, validation: Path, most_pairs: int) -> Overlap:
    mapped = _map_file(training)
    num_exact = num_normalised = num_rows = 0
    first: list[tuple[int, int, bool]] = []
    for block in entries(validation):
        found = _find(mapped, block)
        num_rows += len(block)
        num_exact += int(found.exact.sum())
        num_normalised += len(found.lines)
        first = heapq.nsmallest(most_pairs, [*first, *_first(found, most_pairs)])
    totals = OverlapTotals(
        num_rows=len(mapped), num_validation_rows=num_rows, num_exact=num_exact, num_normalised=num_normalised
    )
    return Overlap(totals, [Pair(validation_line=held, line=line, exact=exact) for held, line, exact in first])


def _map_file(path: Path) -> Entries:
    """Map the file into memory. An empty file cannot be mapped and gives an empty array."""
    if path.stat().st_size < ENTRY_BYTES:
        return np.empty((0, 3), "<u8")
    return np.asarray(np.memmap(path, "<u8", "r")).reshape(-1, 3)


def _first(found: OverlapResult, count: int) -> Iterator[tuple[int, int, bool]]:
    order = np.argsort(found.validation_lines, kind="stable")[:count]
    columns = (column[order].tolist() for column in found)
    return zip(*columns, strict=True)


def _find(mapped: Entries, block: Entries) -> OverlapResult:
    if len(mapped) == 0:
        return OverlapResult(block[:0, LINE], block[:0, LINE], np.zeros(0, np.bool_))
    at = _find_places(mapped, block)
    behind, before = np.minimum(at, len(mapped) - 1), np.maximum(at - 1, 0)
    normalised = block[:, NORMALISED]
    near_behind = mapped[behind, NORMALISED] == normalised
    near = near_behind | (mapped[before, NORMALISED] == normalised)
    exact = near_behind & (mapped[behind, EXACT] == block[:, EXACT])
    lines = np.where(near_behind, mapped[behind, LINE], mapped[before, LINE])
    return OverlapResult(block[near, LINE], lines[near], exact[near])


def _find_places(mapped: Entries, block: Entries) -> NDArray[Any]:
    """Return for each entry of the block the index of the file's first entry that is not less by the two hashes."""
    low = np.zeros(len(block), np.int64)
    high = np.full(len(block), len(mapped), np.int64)
    while (open_ones := np.flatnonzero(low < high)).size:
        middle = (low[open_ones] + high[open_ones]) // 2
        there, wanted = mapped[middle], block[open_ones]
        is_before = (there[:, NORMALISED] < wanted[:, NORMALISED]) | (
            (there[:, NORMALISED] == wanted[:, NORMALISED]) & (there[:, EXACT] < wanted[:, EXACT])
        )
        low[open_ones] = np.where(is_before, middle + 1, low[open_ones])
        high[open_ones] = np.where(is_before, high[open_ones], middle)
    return low
