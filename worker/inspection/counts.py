"""Counts an inspection's findings, in memory that is bounded for any file."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets.content import unused_key
from app.domain.datasets.formats import READ_TOO, Record, RecordFormat, unused_keys
from app.domain.datasets.problem import ONCE_A_FILE, UNSTORABLE, Finding, Problem
from app.domain.datasets.report import SHOWN_PROBLEMS, Bin
from app.domain.datasets.validation import SHAREGPT_ROLES
from worker.inspection.fast_check import Cleared
from worker.inspection.plain_rows import PART, Shape
from worker.inspection.row_check import RowCheck

MAX_KEPT: Final = 1000
"""Limits the problems that are kept per code; all are counted."""
MAX_COLUMNS: Final = 64
MAX_NAME_CHARS: Final = 100
MAX_SHAPES: Final = 2**12
NAMED_LINES: Final = 10
"""Limits the line numbers that are listed for equal findings."""
SMALL: Final = 16
"""Up to this number of turns, each number has a separate bin."""


class EqualFindings:
    """Groups findings with the same code and message."""

    __slots__ = ("count", "finding", "lines")

    def __init__(self, finding: Finding) -> None:
        self.finding, self.count, self.lines = finding, 0, list[int]()

    def add(self, line: int, count: int = 1) -> None:
        self.count += count
        if len(self.lines) < NAMED_LINES and self.lines[-1:] != [line]:
            self.lines.append(line)

    def problem(self) -> Problem:
        return Problem.of(self.lines[0], self.finding).model_copy(update={"count": self.count, "lines": self.lines})


class Problems:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._kept: dict[str, list[Problem]] = {}
        self._equal: dict[str, dict[str, EqualFindings]] = {}
        """Groups by code, then by message."""

    def note(self, line: int, finding: Finding, count: int = 1) -> None:
        self.counts[finding.code] += count
        equal = self._equal.setdefault(finding.code, {})
        same = equal.get(finding.message)
        kept = self._kept.setdefault(finding.code, [])
        if len(kept) < MAX_KEPT and (same is None or finding.code not in ONCE_A_FILE):
            kept.append(Problem.of(line, finding))
        if same is None and len(equal) < MAX_KEPT:
            same = equal[finding.message] = EqualFindings(finding)
        if same is not None:
            same.add(line, count)

    def note_duplicates(self, duplicates: "DuplicateRows") -> None:
        if duplicates.count:
            self.counts[duplicates.code] += duplicates.count
            self._kept[duplicates.code] = duplicates.problems()
            equal = self._equal[duplicates.code] = {"": EqualFindings(duplicates.finding())}
            for problem in reversed(self._kept[duplicates.code][:NAMED_LINES]):
                equal[""].lines.insert(0, problem.line)
            equal[""].count = duplicates.count

    def in_order(self) -> list[Problem]:
        return sorted((problem for kept in self._kept.values() for problem in kept), key=lambda each: each.line)

    def grouped(self) -> list[Problem]:
        """Return equal problems as one, errors first (they prevent the use of the file), then by descending count."""
        found = [each.problem() for equal in self._equal.values() for each in equal.values()]
        return sorted(found, key=lambda each: (each.severity, -each.count, each.line))

    def shown(self) -> list[Problem]:
        return self.grouped()[:SHOWN_PROBLEMS]


class DuplicateRows:
    """Collects duplicate rows, which arrive in no order. All are counted; those with the lowest lines are kept.

    `message` describes one of them, `together` several."""

    def __init__(self, code: str, message: str, together: str) -> None:
        self.code, self._message, self._together = code, message, together
        self.count = 0
        self._kept = np.empty((0, 2), np.uint64)

    def add(self, lines: NDArray[np.uint64], others: NDArray[np.uint64]) -> None:
        self.count += len(lines)
        kept = np.concatenate([self._kept, np.stack([lines, others], axis=1)])
        self._kept = kept[np.argsort(kept[:, 0], kind="stable")[:MAX_KEPT]]

    def finding(self) -> Finding:
        return Finding("", self.code, self._together if self.count > 1 else self.problems()[0].message)

    def problems(self) -> list[Problem]:
        return [
            Problem.of(line, Finding("", self.code, self._message.format(f"{other:,}")))
            for line, other in self._kept.tolist()
        ]


class Tally:
    """Counts columns of all rows that are objects, and statistics of rows without an error.

    Rows that were checked one by one go to `add_checked`, and their texts to `add_texts` in groups, because creating
    arrays is slow."""

    def __init__(self) -> None:
        self.columns: dict[str, int] = {}
        self.has_more_columns = False
        self._unused: dict[str, EqualFindings] = {}
        """Counts the keys of good rows that training does not read."""
        self._shapes: Counter[Shape] = Counter()
        self._roles: Counter[str] = Counter()
        self._turns: Counter[tuple[int, int]] = Counter()
        self._lengths = np.zeros(64, np.int64)

    def add_cleared(self, cleared: Cleared) -> None:
        """Add cleared rows. Their keys are known already, because the first row with a new key is checked
        individually."""
        self._add_columns(cleared.columns)
        for key, count in cleared.columns.items():
            if (unused := self._unused.get(_storable(key))) is not None:
                unused.count += count
        self._add_shapes(cleared.shapes)
        self._add_lengths(cleared.num_chars)

    def add_checked(self, line: int, check: RowCheck, format: RecordFormat | None) -> None:
        """Add a row that was checked individually. `format` is the file's format."""
        if check.record is not None:
            # A hostile row may have a million keys.
            self.has_more_columns |= len(check.record) > 2 * MAX_COLUMNS
            self._add_columns(dict.fromkeys(islice(check.record, 2 * MAX_COLUMNS), 1))
        if check.texts is not None:
            self._add_turns(check.shape, 1)
            if check.record is not None and format is not None:
                self._add_unused(line, check.record, format)

    def add_texts(self, texts: Iterable[str]) -> None:
        """Add the texts of rows that were checked individually."""
        self._add_lengths(np.array([len(each) - each.count(PART) for each in texts], np.int64))

    def _add_columns(self, counts: Mapping[str, int]) -> None:
        for key, count in counts.items():
            name = _storable(key)
            if name in self.columns or len(self.columns) < MAX_COLUMNS:
                self.columns[name] = self.columns.get(name, 0) + count
            else:
                self.has_more_columns = True

    def _add_unused(self, line: int, record: Record, format: RecordFormat) -> None:
        for name in map(_storable, islice(unused_keys(record, format), 2 * MAX_COLUMNS)):
            if name not in self._unused and len(self._unused) < MAX_COLUMNS:
                missing = READ_TOO.get(format, frozenset()) - record.keys()
                self._unused[name] = EqualFindings(unused_key(name, missing))
            if name in self._unused:
                self._unused[name].add(line)

    def unused(self) -> Iterator[EqualFindings]:
        return iter(self._unused.values())

    def _add_shapes(self, shapes: Mapping[Shape, int]) -> None:
        self._shapes.update(shapes)
        if len(self._shapes) > MAX_SHAPES:
            self._settle()

    def _settle(self) -> None:
        for shape, count in self._shapes.items():
            self._add_turns(shape, count)
        self._shapes.clear()

    def _add_turns(self, shape: Shape, count: int) -> None:
        if shape:
            self._turns[_turn_bin(len(shape))] += count
            for by, times in Counter(shape).items():
                self._roles[SHAREGPT_ROLES.get(by, by)] += count * times

    def _add_lengths(self, num_chars: NDArray[np.int64]) -> None:
        self._lengths += np.bincount(np.frexp(num_chars)[1], minlength=64)

    def lengths(self) -> list[Bin]:
        counts = [(exponent, int(count)) for exponent, count in enumerate(self._lengths) if count]
        return [Bin(min=2**exponent // 2, max=2**exponent - 1, num_rows=count) for exponent, count in counts]

    def turns(self) -> list[Bin]:
        self._settle()
        return [Bin(min=least, max=most, num_rows=count) for (least, most), count in sorted(self._turns.items())]

    def roles(self) -> dict[str, int]:
        self._settle()
        return dict(self._roles)


def _storable(key: str) -> str:
    return key[:MAX_NAME_CHARS].translate(UNSTORABLE)


def _turn_bin(length: int) -> tuple[int, int]:
    """Return the bin's bounds: up to `SMALL` each length has a separate bin; then each bin is twice as wide as the one
    before."""
    if length <= SMALL:
        return length, length
    most = 2 ** (length - 1).bit_length()
    return most // 2 + 1, most
