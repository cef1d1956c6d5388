"""Writes the good rows of a dataset to a file."""

from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets.formats import RecordFormat
from app.domain.datasets.lines import split_blocks
from worker.inspection.duplicates import duplicates
from worker.inspection.formats.containers import CHUNK_BYTES
from worker.inspection.inspection import InspectedRows, Inspection

BITS: Final = 8


def clean(
    source: BinaryIO, target: BinaryIO, scratch: Path, format: RecordFormat | None, *, drop_duplicates: bool
) -> None:
    """Copy the rows without an error from `source`, JSON Lines of the given format, to `target`.

    `drop_duplicates` omits rows whose texts are identical to those of an earlier row."""
    if not drop_duplicates:
        _keep_good(source, target, scratch, format)
        return
    good = scratch / "good"
    with good.open("wb") as file:
        inspection = _keep_good(source, file, scratch, format)
    hashes = scratch / "good.hashes"
    inspection.conclude(hashes)
    dropped = mark_duplicates(hashes, inspection.num_good)
    with good.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not dropped[number // BITS] >> number % BITS & 1:
                target.write(line)


def _keep_good(source: BinaryIO, target: BinaryIO, scratch: Path, format: RecordFormat | None) -> Inspection:
    inspection = Inspection(scratch, format, InspectedRows(target, good_only=True))
    inspection.read(split_blocks(iter(lambda: source.read(CHUNK_BYTES), b"")))
    return inspection


def mark_duplicates(hashes: Path, num_lines: int) -> NDArray[np.uint8]:
    """Return a bit for each line, counted from 1: whether it repeats an earlier one."""
    bits = np.zeros(num_lines // BITS + 1, np.uint8)
    for same in duplicates(hashes):
        lines = same.exact
        np.bitwise_or.at(bits, lines // BITS, np.left_shift(1, lines % BITS).astype(np.uint8))
    return bits
