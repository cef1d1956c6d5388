"""What an inspection counts, bounded whatever the file holds."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.domain.dataset import SHOWN_PROBLEMS, Bin
from app.domain.problem import UNSTORABLE, Finding, Problem
from app.domain.record_check import SHAREGPT_ROLES
from worker.inspection.close import Close
from worker.inspection.plain import PART, Shape
from worker.inspection.screen import Cleared

MAX_KEPT: Final = 1000
"""Problems of one code that are kept; all are counted."""
MAX_COLUMNS: Final = 64
MAX_NAME_CHARS: Final = 100
MAX_SHAPES: Final = 2**12
SMALL: Final = 16
"""Turns that have a bin of their own."""


class Problems:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._kept: dict[str, list[Problem]] = {}

    def note(self, line: int, finding: Finding) -> None:
        self.counts[finding.code] += 1
        kept = self._kept.setdefault(finding.code, [])
        if len(kept) < MAX_KEPT:
            kept.append(Problem.of(line, finding))

    def note_chosen(self, chosen: "Chosen") -> None:
        if chosen.count:
            self.counts[chosen.code] += chosen.count
            self._kept[chosen.code] = chosen.problems()

    def in_order(self) -> list[Problem]:
        return sorted((problem for kept in self._kept.values() for problem in kept), key=lambda each: each.line)

    def shown(self) -> list[Problem]:
        """Errors first: they are what keeps the file from being used."""
        return sorted(self.in_order(), key=lambda each: each.severity)[:SHOWN_PROBLEMS]


class Chosen:
    """Rows that are like others, which come in no order: all are counted, and the first lines are kept."""

    def __init__(self, code: str, message: str) -> None:
        self.code, self._message = code, message
        self.count = 0
        self._kept = np.empty((0, 2), np.uint64)

    def add(self, lines: NDArray[np.uint64], others: NDArray[np.uint64]) -> None:
        self.count += len(lines)
        kept = np.concatenate([self._kept, np.stack([lines, others], axis=1)])
        self._kept = kept[np.argsort(kept[:, 0], kind="stable")[:MAX_KEPT]]

    def problems(self) -> list[Problem]:
        return [
            Problem.of(line, Finding("", self.code, self._message.format(f"{other:,}")))
            for line, other in self._kept.tolist()
        ]


class Tally:
    """Of rows without an error; columns of all that are objects. Rows that were looked at closely come to `add_close`
    one by one, their texts to `add_texts` some at a time, since arrays are slow to make."""

    def __init__(self) -> None:
        self.columns: dict[str, int] = {}
        self.has_more_columns = False
        self._shapes: Counter[Shape] = Counter()
        self._roles: Counter[str] = Counter()
        self._turns: Counter[tuple[int, int]] = Counter()
        self._lengths = np.zeros(64, np.int64)

    def add_cleared(self, cleared: Cleared) -> None:
        self._add_columns(cleared.columns)
        self._add_shapes(cleared.shapes)
        self._add_lengths(cleared.num_chars)

    def add_close(self, close: Close) -> None:
        if close.record is not None:
            # A hostile row may have a million keys.
            self.has_more_columns |= len(close.record) > 2 * MAX_COLUMNS
            self._add_columns(dict.fromkeys(islice(close.record, 2 * MAX_COLUMNS), 1))
        if close.texts is not None:
            self._add_turns(close.shape, 1)

    def add_texts(self, texts: Iterable[str]) -> None:
        """Of rows that were looked at closely."""
        self._add_lengths(np.array([len(each) - each.count(PART) for each in texts], np.int64))

    def _add_columns(self, counts: Mapping[str, int]) -> None:
        for key, count in counts.items():
            name = key[:MAX_NAME_CHARS].translate(UNSTORABLE)
            if name in self.columns or len(self.columns) < MAX_COLUMNS:
                self.columns[name] = self.columns.get(name, 0) + count
            else:
                self.has_more_columns = True

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
        return [Bin(least=2**exponent // 2, most=2**exponent - 1, num_rows=count) for exponent, count in counts]

    def turns(self) -> list[Bin]:
        self._settle()
        return [Bin(least=least, most=most, num_rows=count) for (least, most), count in sorted(self._turns.items())]

    def roles(self) -> dict[str, int]:
        self._settle()
        return dict(self._roles)


def _turn_bin(length: int) -> tuple[int, int]:
    """The first lengths each have their own; then each bin is twice as wide as the one before."""
    if length <= SMALL:
        return length, length
    most = 2 ** (length - 1).bit_length()
    return most // 2 + 1, most
