"""Finds duplicate rows by two hashes of each row's texts, in a file that is sorted without loading it into memory.

The file consists of entries of 24 bytes with three little-endian unsigned 64-bit integers, `normalised`, `exact` and
`line`, and is sorted by them in this order. `exact` is XXH3 of the row's texts in UTF-8, separated by the byte 0x1F.
`normalised` is the same hash after A to Z are lowercased, each run of white space becomes one space, and white space at
both ends of a text is removed. Equal rows are therefore adjacent, in one file or in two merged files; `entries` reads
the file. Rows with an error have no entry."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

ENTRY_BYTES: Final = 24
NORMALISED, EXACT, LINE = range(3)
"""Number the columns of entries."""
ROW, ROW_BYTE, PART_BYTE, SPACE = b"\x1e", 0x1E, 0x1F, 0x20
SPILL_ENTRIES: Final = 2**17
"""Limits the entries buffered in memory, to 3 MB."""
SORTED_ENTRIES: Final = 2**18
"""Limits the entries sorted in memory, to 6 MB and three times as much during the sort."""
KEY_BYTES: Final = 16
"""Is the length of the two hashes together. Entries that share all these bytes need no sorting."""

VERTICAL_TAB: Final = b"\x0b"
"""Counts both as white space and as a control character."""
_SPACE: Final = b"\t\n\x0b\x0c\r "
DAMAGE: Final = 0x01
"""Replaces control characters."""
Entries = NDArray[np.uint64]
"""Holds one row per entry, with the columns above."""
_digest = xxhash.xxh3_64_digest


_NONE: Final[Entries] = np.empty((0, 3), "<u8")


def _make_table() -> bytes:
    table = bytearray(range(256))
    table[:SPACE] = bytes([DAMAGE]) * SPACE
    table[127] = DAMAGE
    for byte in _SPACE:
        table[byte] = SPACE
    table[ROW_BYTE], table[PART_BYTE] = ROW_BYTE, PART_BYTE
    for byte in range(ord("A"), ord("Z") + 1):
        table[byte] += 32
    return bytes(table)


TABLE: Final = _make_table()
IS_DOUBTFUL: Final = np.isin(np.arange(256), [*range(SPACE), 0xC2, 0xE1, 0xE2, 0xE3])
"""Says whether a text with this first byte may be empty or start with Unicode white space."""


class Normalised(NamedTuple):
    """Holds the normalised texts of a batch of rows."""

    rows: list[bytes]
    is_plain: bool
    """Says whether no text holds a control character or a separator byte."""
    doubtful: list[int]
    """Lists the indexes of rows with a text that is empty or may start with Unicode white space."""


def normalise(joined: bytes, num_rows: int, num_texts: int) -> Normalised:
    """Normalise rows that are joined by ROW, with texts joined by PART_BYTE. `num_texts` counts the texts of all
    rows."""
    mapped = np.frombuffer(joined.translate(TABLE), np.uint8)
    is_low, is_space = mapped <= SPACE, mapped == SPACE
    is_bound = is_low ^ is_space
    drop = is_space.copy()
    drop[1:] &= is_low[:-1]
    drop[:-1] |= is_space[:-1] & is_bound[1:]
    drop[-1:] |= is_space[-1:]
    # The few dropped bytes become NUL, which the table never produces, and are removed with a bytes method.
    whole = (mapped * np.invert(drop, out=drop)).tobytes().replace(b"\0", b"")
    whole, bounds = _without_last_spaces(whole)
    kept = np.frombuffer(whole, np.uint8)
    row_ends = bounds[kept[bounds] == ROW_BYTE]
    rows = whole.split(ROW)
    text_starts = np.concatenate([[0], bounds + 1])
    begins = np.append(kept, np.uint8(ROW_BYTE))[text_starts]
    doubts = text_starts[IS_DOUBTFUL[begins]]
    doubtful = np.unique(np.searchsorted(row_ends, doubts)).tolist()
    is_plain = len(rows) == num_rows and len(bounds) == num_texts - 1 and VERTICAL_TAB not in joined
    return Normalised(rows, is_plain, doubtful)


def _without_last_spaces(whole: bytes) -> tuple[bytes, NDArray[np.int64]]:
    """Return the bytes without trailing spaces of texts, and the positions where texts end. At this point a text ends
    with at most one space."""
    kept = np.frombuffer(whole, np.uint8)
    bounds = np.flatnonzero(kept < SPACE)
    last = np.append(bounds, len(kept)) - 1
    last = last[last >= 0]
    spaces = last[kept[last] == SPACE]
    if not len(spaces):
        return whole, bounds
    kept = np.delete(kept, spaces)
    return kept.tobytes(), np.flatnonzero(kept < SPACE)


def normalise_any(rows: Sequence[bytes]) -> list[bytes]:
    """Normalise rows that may hold any bytes."""
    joined = ROW.join(row.replace(ROW, bytes([DAMAGE])) for row in rows)
    return normalise(joined, len(rows), 0).rows if rows else []


def make_entries(lines: NDArray[np.int64], texts: Sequence[bytes], normalised: Sequence[bytes]) -> Entries:
    entries = np.empty((len(lines), 3), "<u8")
    entries[:, NORMALISED] = np.frombuffer(b"".join(map(_digest, normalised)), ">u8")
    entries[:, EXACT] = np.frombuffer(b"".join(map(_digest, texts)), ">u8")
    entries[:, LINE] = lines
    return entries


class Hashes:
    """Collects entries and writes them to a sorted file. `folder` receives temporary files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[Entries] = []
        self._num_waiting = 0
        self._spilled: Path | None = None

    def add(self, entries: Entries) -> None:
        """Add entries, which must come in the order of their lines."""
        self._waiting.append(entries)
        self._num_waiting += len(entries)
        if self._num_waiting >= SPILL_ENTRIES:
            self._spill()

    def write(self, path: Path) -> None:
        with path.open("wb") as target:
            if self._spilled is None:
                target.write(_sorted(self._taken()).tobytes())
            else:
                self._spill()
                _merge(self._spilled, target, depth=0)

    def _taken(self) -> Entries:
        taken = np.concatenate([_NONE, *self._waiting])
        self._waiting, self._num_waiting = [], 0
        return taken

    def _spill(self) -> None:
        self._spilled = self._folder / "hashes"
        with self._spilled.open("ab") as file:
            file.write(self._taken().tobytes())


def _sorted(entries: Entries) -> Entries:
    """Sort by the first column, then sort only the entries with an equal first column by all three."""
    by_first = entries[np.argsort(entries[:, NORMALISED])]
    same = by_first[1:, NORMALISED] == by_first[:-1, NORMALISED]
    alike = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    some = by_first[alike]
    by_first[alike] = some[np.lexsort((some[:, LINE], some[:, EXACT], some[:, NORMALISED]))]
    return by_first


def _merge(path: Path, target: BinaryIO, depth: int) -> None:
    """Append a file's entries in order and remove the file. Their hashes share the first `depth` bytes.

    A file that is too large for memory is split by the next byte, recursively. Entries that share all bytes are already
    in the order of their lines, because every split is stable."""
    if path.stat().st_size <= SORTED_ENTRIES * ENTRY_BYTES:
        target.write(_sorted(np.fromfile(path, "<u8").reshape(-1, 3)).tobytes())
    elif depth == KEY_BYTES or _are_all_same(path):
        with path.open("rb") as source:
            shutil.copyfileobj(source, target)
    else:
        for part in _divided(path, depth):
            _merge(part, target, depth + 1)
    path.unlink()


def _are_all_same(path: Path) -> bool:
    first = next(_blocks(path))[0, :LINE]
    return all(bool((block[:, :LINE] == first).all()) for block in _blocks(path))


def _divided(path: Path, depth: int) -> list[Path]:
    """Split the entries by their next byte; return the files in the order of the byte."""
    parts = [path.with_name(f"{path.name}.{byte:02x}") for byte in range(256)]
    for block in _blocks(path):
        keys = block[:, NORMALISED if depth < KEY_BYTES // 2 else EXACT]
        byte = (keys >> np.uint64(56 - 8 * (depth % 8))).astype(np.uint8)
        order = np.argsort(byte, kind="stable")
        ends = np.cumsum(np.bincount(byte, minlength=256))
        for part, some in zip(parts, np.split(block[order], ends[:-1]), strict=True):
            if len(some):
                with part.open("ab") as file:
                    file.write(some.tobytes())
    return [part for part in parts if part.exists()]


def _blocks(path: Path) -> Iterator[Entries]:
    with path.open("rb") as file:
        while data := file.read(SPILL_ENTRIES * ENTRY_BYTES):
            yield np.frombuffer(data, "<u8").reshape(-1, 3)


def entries(path: Path) -> Iterator[Entries]:
    """Yield a sorted file's entries, block by block."""
    return _blocks(path)


class Same(NamedTuple):
    """Holds the lines of rows whose texts equal those of the previous entry of a sorted file, and the lines of these
    previous entries."""

    exact: NDArray[np.uint64]
    exact_of: NDArray[np.uint64]
    near: NDArray[np.uint64]
    """These lines have equal texts only after normalisation."""
    near_of: NDArray[np.uint64]


def duplicates(path: Path) -> Iterator[Same]:
    last = _NONE
    for block in _blocks(path):
        run = np.concatenate([last, block])
        before, after = run[:-1], run[1:]
        normalised = before[:, NORMALISED] == after[:, NORMALISED]
        exact = normalised & (before[:, EXACT] == after[:, EXACT])
        near = normalised & ~exact
        yield Same(after[exact, LINE], before[exact, LINE], after[near, LINE], before[near, LINE])
        last = run[-1:]
