"""Inspects a whole dataset: finds its format and all problems. A pure function of the rows.

Memory use does not grow with the file. Each batch of lines goes through the fast path; the rows that it does not clear
are checked one by one."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from app.domain.datasets.container import flawed_line
from app.domain.datasets.formats import RecordFormat, is_blank, keys_of
from app.domain.datasets.problem import Finding
from app.domain.datasets.report import Duplicates, Report, Statistics
from worker.inspection.counts import DuplicateRows, Problems, Tally
from worker.inspection.duplicates import Hashes, duplicates, make_entries, normalise_any
from worker.inspection.errors import Flawed, Unreadable
from worker.inspection.fast_check import NOTHING, FastCheck
from worker.inspection.formats.containers import UploadedRows
from worker.inspection.row_check import LONG_CHARS, RowCheck, check_row

WINDOWS_LINES: Final = Finding(
    "", "crlf_line_endings", "The lines end with a carriage return, as on Windows. Save the file with line feeds only."
)
UNSAFE_FILENAME: Final = Finding(
    "",
    "unsafe_filename",
    "Unprintable characters were removed from the file's name. Rename the file if its name matters.",
)
TEXT_LINES: Final = Finding(
    "",
    "text_lines_are_rows",
    "The file is plain text, so each line is a row. Write JSON Lines if this is not intended.",
)
EMPTY: Final = frozenset({"no_trainable_text", "no_conversation"})


class LineBatch(NamedTuple):
    first: int
    """Is the line number of the first line."""
    lines: list[bytes]


class InspectedRows(NamedTuple):
    """Writes lines to a file as they are read."""

    file: BinaryIO
    good_only: bool
    """Says whether to omit blank lines and rows with an error. The hashes then number the written lines."""


class Inspection:
    """Inspects one dataset: `read` reads the rows once, `conclude` compares them. `folder` receives temporary files."""

    def __init__(self, folder: Path, named: RecordFormat | None = None, kept: InspectedRows | None = None) -> None:
        self._named, self._kept = named, kept
        self._format = named
        self._reason = "The format was specified at upload." if named else "No row matches a format."
        self._fast_check = FastCheck(named) if named else None
        self._hashes = Hashes(folder)
        self._tally = Tally()
        self.problems = Problems()
        self._num_lines = self._num_rows = self.num_good = self._num_empty = self._num_long = 0
        self._duplicates = Duplicates()
        self._was_read_whole = False

    def read(self, blocks: Iterable[list[bytes]]) -> None:
        """Read all rows. `blocks` are those of UploadedRows."""
        try:
            for batch in batches(blocks):
                self._inspect_batch(batch)
        except Unreadable as error:
            self.problems.note(error.line, error.finding)
        else:
            if self._num_rows == 0:
                no_rows = Finding("", "no_rows", "The file has no rows. Write one JSON object per line.")
                self.problems.note(max(self._num_lines, 1), no_rows)
            self._was_read_whole = self._num_rows > 0
        for unused in self._tally.unused():
            self.problems.note(unused.lines[0], unused.finding, unused.count)

    def note_file(self, rows: UploadedRows, *, unsafe_filename: bool) -> None:
        """Note findings about the file as a whole."""
        if unsafe_filename:
            self.problems.note(1, UNSAFE_FILENAME)
        if rows.container == "text":
            self.problems.note(1, TEXT_LINES)

    def conclude(self, hash_path: Path) -> None:
        """Write the sorted file of hashes, and note the duplicates that it shows."""
        self._hashes.write(hash_path)
        exact = DuplicateRows(
            "duplicate_row",
            "The row has the same texts as line {}. Remove one of them.",
            "The rows have the same texts as earlier rows. Remove them.",
        )
        near = DuplicateRows(
            "near_duplicate_row",
            "The row has the same texts as line {}, apart from capitals and white space.",
            "The rows have the same texts as earlier rows, apart from capitals and white space.",
        )
        for same in duplicates(hash_path):
            exact.add(same.exact, same.exact_of)
            near.add(np.maximum(same.near, same.near_of), np.minimum(same.near, same.near_of))
        self._duplicates = Duplicates(exact=exact.count, normalised=exact.count + near.count)
        self.problems.note_duplicates(exact)
        self.problems.note_duplicates(near)

    def report(self, rows: UploadedRows) -> Report:
        statistics = Statistics(
            container=rows.container,
            compression=rows.compression,
            container_reason=rows.why,
            num_blank_lines=self._num_lines - self._num_rows,
            num_empty_rows=self._num_empty,
            num_long_rows=self._num_long,
            columns=self._tally.columns,
            has_more_columns=self._tally.has_more_columns,
            duplicates=self._duplicates,
            roles=self._tally.roles(),
            turns=self._tally.turns(),
            lengths=self._tally.lengths(),
        )
        return Report(
            format=self._format,
            format_reason=self._reason,
            num_examples=self._num_rows,
            num_bad_rows=self._num_rows - self.num_good,
            problems=self.problems.shown(),
            problem_counts=dict(self.problems.counts),
            statistics=statistics,
            was_read_whole=self._was_read_whole,
        )

    def _inspect_batch(self, batch: LineBatch) -> None:
        lines = batch.lines
        if batch.first == 1 and lines[0].endswith(b"\r") and not isinstance(lines[0], Flawed):
            self.problems.note(1, WINDOWS_LINES)
        cleared = NOTHING if self._fast_check is None or is_checked_alone(lines[0]) else self._fast_check.clear(lines)
        self._tally.add_cleared(cleared)
        self._num_lines += len(lines)
        self._num_rows += len(cleared.places)
        places, texts, normalised = cleared.places, cleared.texts, cleared.normalised
        if len(places) < len(lines):
            good = [*zip(places, texts, normalised, strict=True), *self._check_rest(batch, set(places))]
            good.sort(key=itemgetter(0))
            places, texts, normalised = ([row[part] for row in good] for part in range(3))  # type: ignore[assignment]
        if self._kept is not None and self._kept.good_only:
            numbers = np.arange(self.num_good + 1, self.num_good + 1 + len(places))
        else:
            numbers = np.fromiter(places, np.int64, len(places)) + batch.first
        self._hashes.add(make_entries(numbers, texts, normalised))
        self.num_good += len(places)
        self._write_rows(lines, places)

    def _check_rest(self, batch: LineBatch, cleared: set[int]) -> Iterator[tuple[int, bytes, bytes]]:
        """Check the rows that were not cleared; yield index, texts and normalised texts of the good ones."""
        texts: dict[int, str] = {}
        for place, line in enumerate(batch.lines):
            if place in cleared or (is_blank(line) and not isinstance(line, Flawed)):
                continue
            check = self._check_row(batch.first + place, line)
            if check.texts is not None:
                texts[place] = check.texts
        self._tally.add_texts(texts.values())
        encoded = list(map(str.encode, texts.values()))
        return zip(texts, encoded, normalise_any(encoded), strict=True)

    def _check_row(self, number: int, line: bytes) -> RowCheck:
        self._num_rows += 1
        check = check_row(line, self._format, self._named is not None)
        for finding in check.findings:
            self.problems.note(number, finding)
        codes = {finding.code for finding in check.findings}
        self._num_empty += not EMPTY.isdisjoint(codes)
        self._num_long += "long_row" in codes
        if self._format is None and check.format is not None and check.record is not None:
            self._format = check.format
            self._reason = f"Line {number} has the keys {' and '.join(keys_of(check.record, check.format))}."
            self._fast_check = FastCheck(check.format)
        self._tally.add_checked(number, check, self._format)
        if check.texts is not None and check.record is not None and self._fast_check is not None:
            self._fast_check.learn(check.record)
        return check

    def _write_rows(self, lines: Sequence[bytes], good: Sequence[int]) -> None:
        if self._kept is not None:
            kept = [lines[place] for place in good] if self._kept.good_only else lines
            self._kept.file.write(b"".join(map(stored_line, kept)))


def stored_line(line: bytes) -> bytes:
    """Return the line in the form of the stored rows. A flawed line includes the container's finding."""
    if isinstance(line, Flawed):
        line = flawed_line(line.finding.code, line.finding.message)
    return line.replace(b"\n", b" ").rstrip(b"\r") + b"\n"


def is_checked_alone(line: bytes) -> bool:
    """Return whether a line is always checked individually."""
    return len(line) >= LONG_CHARS or isinstance(line, Flawed)


def batches(blocks: Iterable[list[bytes]]) -> Iterator[LineBatch]:
    """Yield batches. The first line is a separate batch, because it shows the format, and so is each long or flawed
    line."""
    number = 1
    for block in blocks:
        for lines in [block[:1], *split_block(block[1:])] if number == 1 else split_block(block):
            yield LineBatch(number, lines)
            number += len(lines)


def split_block(block: list[bytes]) -> Iterator[list[bytes]]:
    """Split a block so that each long or flawed line is in a separate list."""
    if not block:
        return
    if max(map(len, block)) < LONG_CHARS and Flawed not in set(map(type, block)):
        yield block
        return
    for alone, lines in groupby(block, is_checked_alone):
        held = list(lines)
        yield from ([line] for line in held) if alone else [held]
