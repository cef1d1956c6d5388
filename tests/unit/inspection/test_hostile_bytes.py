"""Reads files changed at random: reading must end soon, with rows or with Unreadable.

`TUNEWRIGHT_FUZZ_FILES` sets the number of files; `TUNEWRIGHT_FUZZ_SEED` repeats a run.
"""

import io
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.unit.inspection.files import CHAT, CONTAINERS, NO_DATASET, PACKERS, csv_of, jsonl, parquet
from worker.inspection.formats.containers import Unreadable, read_rows

NUM_FILES = int(os.environ.get("TUNEWRIGHT_FUZZ_FILES", "1500"))
SEED = int(os.environ.get("TUNEWRIGHT_FUZZ_SEED", str(time.time_ns() % 10**6)))
MOST_SECONDS = 1.0
MARKS = (
    b'"',
    b"\\",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"PAR1",
    b"\xef\xbb\xbf",
    b";",
    b"\t",
    b"<html",
)

PLAIN = [
    *CONTAINERS.values(),
    jsonl(CHAT),
    parquet(CHAT),
    csv_of([{"text": "a;b", "note": "c\nd"}] * 9),
    b"One.\nTwo.\n",
]
SEEDS = [pack(data) for data in PLAIN for pack in PACKERS.values()] + [data for data, _, _ in NO_DATASET]
NAMES = ["rows", "rows.csv", "rows.json", "rows.jsonl.gz", "rows.txt", "rows.parquet", ""]


def flip(draw: random.Random, data: bytearray) -> None:
    for _ in range(draw.choice((1, 1, 3, 30))):
        if data:
            data[draw.randrange(len(data))] = draw.randrange(256)


def cut(draw: random.Random, data: bytearray) -> None:
    start = draw.randrange(len(data) + 1)
    del data[start : start + draw.choice((1, 5, 10**9))]


def insert(draw: random.Random, data: bytearray) -> None:
    at = draw.randrange(len(data) + 1)
    data[at:at] = draw.choice(MARKS) * draw.choice((1, 1, 2, 1000))


def splice(draw: random.Random, data: bytearray) -> None:
    at = draw.randrange(len(data) + 1)
    other = draw.choice(SEEDS)
    data[at:] = other[draw.randrange(len(other) + 1) :]


CHANGES: Sequence[Callable[[random.Random, bytearray], None]] = (flip, flip, cut, insert, splice)


def test_files_changed_at_random(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    for number in range(NUM_FILES):
        data = bytearray(draw.choice(SEEDS))
        for _ in range(draw.choice((1, 1, 2, 5))):
            draw.choice(CHANGES)(draw, data)
        name = draw.choice(NAMES)
        (tmp_path / "last").write_bytes(data)  # to look at after a crash
        began = time.process_time()
        try:
            rows = read_rows(io.BytesIO(data), name, tmp_path)
            for line in rows.lines:
                assert b"\n" not in line
        except Unreadable:
            pass
        except Exception as error:
            raise AssertionError(f"file {number} of seed {SEED}: {bytes(data[:300])!r}") from error
        assert time.process_time() - began < MOST_SECONDS, (SEED, number)
