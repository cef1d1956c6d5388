"""Clears whole batches of plain rows at once (the fast path); the remaining rows are checked one by one.

Three checks cover what typed decoding misses. Duplicate keys: each key's colon follows a quotation mark or white space,
so a batch has at least as many such colons as keys; if the count equals the number of decoded keys, none was lost.
Several rows in a line, or one row over several lines: a line that begins with "{" and ends with "}", between lines that
do the same, holds one row. Texts: control characters and turns without text."""

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from app.domain.datasets.formats import KEYS, Record, RecordFormat
from app.domain.datasets.validation import check_record
from worker.inspection.duplicates import ROW, Normalised, normalise
from worker.inspection.plain_rows import PART, PLAIN, Read, Shape
from worker.inspection.row_check import CONTROL, count_keys

MAX_COLUMNS: Final = 32
MAX_NAME_CHARS: Final = 100
MAX_SHAPES: Final = 2**12
MAX_TURNS: Final = 64
READ: Final = frozenset({"tools", "functions", "system", "history"})
"""Some format reads or rejects these keys but does not require them. They are not plain columns, so their rows are
checked individually."""
QUOTE, BACKSLASH, COLON, NEWLINE = b'"\\:\n'
Scalar = str | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float | bool | None
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Cleared(NamedTuple):
    """Holds the rows of a batch that have no problem, in parallel lists, and their totals."""

    places: list[int]
    """Lists the rows' indexes in the batch. All other rows must be checked individually."""
    texts: list[bytes]
    normalised: list[bytes]
    num_chars: NDArray[np.int64]
    shapes: Counter[Shape]
    columns: Counter[str]


NOTHING: Final = Cleared([], [], [], np.empty(0, np.int64), Counter(), Counter())


class Column(NamedTuple):
    """Describes a key outside the format that rows were seen with. Its values are scalars."""

    name: str
    required: bool
    """Says whether every row so far has the key."""


OF_FORMATS: Final = frozenset[str]().union(*(keys for each in KEYS.values() for keys in each))


class FastCheck:
    def __init__(self, format: RecordFormat) -> None:
        self._plain = PLAIN[format]
        self._format = format
        self._own = frozenset(field[0] for field in self._plain.fields).union(*KEYS[format], READ)
        self._columns: dict[str, Column] = {}
        self._is_plain: dict[Shape, bool] = {}
        self._has_seen = False
        self._rebuild()

    def learn(self, record: Record) -> None:
        """Learn the columns of a good row that was not cleared: it may have a new key, or lack a known one."""
        more = {key: value for key, value in record.items() if key not in self._own}
        if any(isinstance(value, dict | list) or not is_name(key) for key, value in more.items()):
            return
        if not OF_FORMATS.isdisjoint(more):  # With further keys of a format, a row could have another format.
            return
        known = dict(self._columns)
        for name in more.keys() - known.keys():
            known[name] = Column(name, required=not self._has_seen)
        known |= {name: Column(name, required=False) for name in known.keys() - more.keys()}
        self._has_seen = True
        if known != self._columns and len(known) <= MAX_COLUMNS:
            self._columns = known
            self._rebuild()

    def _rebuild(self) -> None:
        names = {f"column_{number}": column for number, column in enumerate(self._columns.values())}
        required = [(attribute, Scalar) for attribute, column in names.items() if column.required]
        optional = [
            (attribute, Scalar | UnsetType, UNSET) for attribute, column in names.items() if not column.required
        ]
        own = [field for field in self._plain.fields if len(field) == 2]
        fields = [*own, *required, *(field for field in self._plain.fields if len(field) == 3), *optional]
        row = msgspec.defstruct(
            "Row",
            fields,
            rename={attribute: column.name for attribute, column in names.items()},
            forbid_unknown_fields=True,
            gc=False,
        )
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row)
        self._optional = {
            column.name: attrgetter(attribute) for attribute, column in names.items() if not column.required
        }
        self._num_required = len(required)

    def clear(self, lines: Sequence[bytes]) -> Cleared:
        joined = b"\n".join(lines)
        if b"\r" in joined:
            lines = [line.rstrip(b"\r") for line in lines]
            joined = b"\n".join(lines)
        places, rows = self._decoded(lines, joined)
        if not rows:
            return NOTHING
        read = self._plain.read(rows)
        columns, num_keys = self._columns_of(rows, read.num_keys)
        shapes = Counter(read.shapes)
        odd = read.odd | self._odd_shapes(read.shapes, shapes)
        if len(rows) < len(lines):
            lines = [lines[index] for index in places]
            joined = b"\n".join(lines)
        odd |= find_repeated_keys(lines, joined, num_keys)
        if odd:
            return self._clear_others(lines, places, odd)
        whole = join_texts(read).encode()
        normalised = normalise(whole, len(rows), len(read.texts))
        if odd := find_odd_texts(read, normalised):
            return self._clear_others(lines, places, odd)
        num_chars = np.add.reduceat(np.fromiter(map(len, read.texts), np.int64), starts_of(read))
        return Cleared(places, whole.split(ROW), normalised.rows, num_chars, shapes, columns)

    def _clear_others(self, lines: Sequence[bytes], places: Sequence[int], odd: set[int]) -> Cleared:
        """Clear the batch without the odd rows."""
        good = [index for index in range(len(lines)) if index not in odd]
        cleared = self.clear([lines[index] for index in good])
        return cleared._replace(places=[places[good[index]] for index in cleared.places])

    def _decoded(self, lines: Sequence[bytes], joined: bytes) -> tuple[list[int], list[Any]]:
        """Return the rows that decode to the plain type, and their indexes."""
        try:
            rows = self._decoder.decode_lines(joined)
        except UNREADABLE:
            rows = []
        if len(rows) == len(lines) and are_rows(joined):
            return list(range(len(lines))), rows
        found = [(index, row) for index, line in enumerate(lines) if (row := self._find(line)) is not None]
        return [index for index, _ in found], [row for _, row in found]

    def _find(self, line: bytes) -> Any:
        try:
            return self._decoder.decode(line)
        except UNREADABLE:
            return None

    def _columns_of(self, rows: Sequence[Any], num_keys: list[int]) -> tuple[Counter[str], NDArray[np.int64]]:
        """Return how many rows have each key, and how many keys each row has."""
        counts = np.array(num_keys) + self._num_required
        has = {name: np.array([get(row) is not UNSET for row in rows]) for name, get in self._optional.items()}
        for present in has.values():
            counts += present
        columns = Counter({name: int(present.sum()) for name, present in has.items()})
        columns.update({column.name: len(rows) for column in self._columns.values() if column.required})
        for field in self._plain.fields:
            seen = len(rows) if len(field) == 2 else sum(getattr(row, field[0]) is not UNSET for row in rows)
            columns[field[0]] = seen
        return +columns, counts

    def _odd_shapes(self, shapes: Sequence[Shape], counts: Counter[Shape]) -> set[int]:
        bad = {shape for shape in counts if not self._is_valid_shape(shape)}
        return {index for index, shape in enumerate(shapes) if shape in bad} if bad else set()

    def _is_valid_shape(self, shape: Shape) -> bool:
        """Return whether a conversation with this sequence of speakers is valid for any texts."""
        if not shape and self._format not in (RecordFormat.messages, RecordFormat.sharegpt):
            return True
        if len(shape) > MAX_TURNS:
            return False
        if shape not in self._is_plain:
            if len(self._is_plain) == MAX_SHAPES:
                self._is_plain.clear()
            self._is_plain[shape] = not any(check_record(_example(shape, self._format), self._format))
        return self._is_plain[shape]


def is_name(key: str) -> bool:
    """Return whether a column with this name can be decoded as a field."""
    return len(key) <= MAX_NAME_CHARS and key.isprintable() and not set('"\\') & set(key)


def _example(shape: Shape, format: RecordFormat) -> Record:
    match format:
        case RecordFormat.messages:
            return {"messages": [{"role": role, "content": "x"} for role in shape]}
        case RecordFormat.sharegpt:
            return {"conversations": [{"from": by, "value": "x"} for by in shape]}
        case _:
            return {"instruction": "x", "output": "x"}


def are_rows(joined: bytes) -> bool:
    """Return whether each line holds exactly one JSON object, given as many objects as lines. No object continues
    between "}" and "{"."""
    bytes_ = np.frombuffer(joined, np.uint8)
    ends = np.flatnonzero(bytes_ == NEWLINE)
    is_framed = joined[:1] + joined[-1:] == b"{}"
    return is_framed and bool((bytes_[ends - 1] == ord("}")).all() and (bytes_[ends + 1] == ord("{")).all())


def find_repeated_keys(lines: Sequence[bytes], joined: bytes, num_keys: NDArray[np.int64]) -> set[int]:
    """Return the indexes of rows that may have a duplicate key, given the number of keys decoded for each row."""
    bytes_ = np.frombuffer(joined, np.uint8)
    colons = np.flatnonzero(bytes_ == COLON)
    before = bytes_[colons - 1]
    after_quote = colons[before == QUOTE]
    escaped = after_quote[is_escaped(bytes_, after_quote - 1)]
    is_space = (before == 0x20) | (before == 0x09) | (before == 0x0D)
    if len(after_quote) - len(escaped) + int(is_space.sum()) == num_keys.sum():
        return set()
    ends = np.flatnonzero(bytes_ == NEWLINE)
    keys = np.concatenate([np.setdiff1d(after_quote, escaped), colons[is_space]])
    found = np.bincount(np.searchsorted(ends, keys), minlength=len(lines))
    suspects = np.flatnonzero(found != num_keys).tolist()
    return {index for index in suspects if count_keys(lines[index]) != num_keys[index]}


def is_escaped(text: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether the characters at these places follow an odd number of backslashes."""
    odd = np.zeros(len(places), bool)
    open_ = np.arange(len(places))
    while len(open_ := open_[text[places[open_] - 1] == BACKSLASH]):
        odd[open_] ^= True
        places = places - 1
    return odd


def starts_of(read: Read) -> NDArray[np.int64]:
    """Return the index of each row's first text in `read.texts`. Every row has at least one text."""
    return np.cumsum([0, *read.num_texts[:-1]])


def join_texts(read: Read) -> str:
    """Join the texts, with PART between a row's texts and ROW between rows."""
    bounds = np.full(len(read.texts), PART, object)
    bounds[starts_of(read)[1:] - 1] = ROW.decode()
    bounds[-1] = ""
    pieces: list[str] = [""] * (2 * len(read.texts))
    pieces[::2], pieces[1::2] = read.texts, bounds.tolist()
    return "".join(pieces)


def find_odd_texts(read: Read, normalised: Normalised) -> set[int]:
    """Return the indexes of rows with a blank text or a control character."""
    if normalised.is_plain and not normalised.doubtful:
        return set()
    odd: set[int] = set()
    ends = list(accumulate(read.num_texts))
    for place in normalised.doubtful if normalised.is_plain else range(len(ends)):
        texts = read.texts[ends[place] - read.num_texts[place] : ends[place]]
        if not all(map(str.strip, texts)) or any(map(CONTROL.search, texts)):
            odd.add(place)
    return odd
