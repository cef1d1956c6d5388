"""Compares the equal rows found in the sorted hashes of two files with a plain comparison of all rows."""

import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.domain.events.job_events import ValidationOverlap
from tests.fixtures.inspection import inspect_lines, line
from worker.inspection import duplicates
from worker.inspection.duplicates import Entries
from worker.inspection.overlap import DamagedHashes, Overlap, fetch_hashes, find_overlap


def write_hashes(folder: Path, name: str, rows: list[Any]) -> Path:
    path = folder / name
    path.write_bytes(inspect_lines(map(line, rows)).hashes)
    return path


def text(*texts: str) -> list[dict[str, str]]:
    return [{"text": each} for each in texts]


def pairs(found: Overlap) -> list[tuple[int, int, bool]]:
    return [(pair.validation_line, pair.line, pair.exact) for pair in found.pairs]


def test_rows_are_paired_by_their_lines(tmp_path: Path) -> None:
    training = write_hashes(tmp_path, "t", text("one", "Two  words", "three", "two words", "one", "four"))
    validation = write_hashes(tmp_path, "v", text("none", "TWO WORDS", "one", "two words", "one", "five"))
    found = find_overlap(training, validation, 100)
    assert found.totals.model_dump() == {
        "num_rows": 6,
        "num_validation_rows": 6,
        "num_exact": 3,
        "num_normalised": 4,
    }
    (first, near, is_exact), *others = pairs(found)
    assert (first, near in (2, 4), is_exact) == (2, True, False)
    assert others == [(3, 1, True), (4, 4, True), (5, 1, True)], "an exact row comes first, and of these the first line"
    assert pairs(find_overlap(training, validation, 2)) == pairs(found)[:2]


@pytest.mark.parametrize(("training", "validation"), [(0, 3), (3, 0), (0, 0)])
def test_an_empty_file_has_no_overlap(tmp_path: Path, training: int, validation: int) -> None:
    (tmp_path / "t").write_bytes(bytes(24 * training))
    (tmp_path / "v").write_bytes(bytes(24 * validation))
    found = find_overlap(tmp_path / "t", tmp_path / "v", 5)
    assert (found.totals.num_rows, found.totals.num_validation_rows) == (training, validation)
    assert (found.totals.num_normalised, found.pairs) == (0, [])


def make_entries(rng: random.Random, count: int, num_keys: int) -> Entries:
    """Make sorted entries with repeated hashes, including the ends of the range."""
    found = []
    for number in range(1, count + 1):
        normalised = rng.choice([0, 2**64 - 1, rng.randrange(num_keys) * (2**64 // num_keys)])
        found.append((normalised, (normalised + rng.randrange(3)) % 2**64, number))
    return np.array(sorted(found), "<u8")


@pytest.mark.parametrize("num_keys", [1, 30, 10**9])
def test_small_blocks_give_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_keys: int) -> None:
    monkeypatch.setattr(duplicates, "SPILL_ENTRIES", 7)
    rng = random.Random(num_keys)
    ours, theirs = make_entries(rng, 400, num_keys), make_entries(rng, 150, num_keys)
    (tmp_path / "t").write_bytes(ours.tobytes())
    (tmp_path / "v").write_bytes(theirs.tobytes())
    found = find_overlap(tmp_path / "t", tmp_path / "v", 20)
    exact: dict[tuple[int, int], int] = {}
    normalised: dict[int, set[int]] = {}
    for norm, each, number in ours.tolist():
        exact.setdefault((norm, each), number)
        normalised.setdefault(norm, set()).add(number)
    near = sorted((number, norm, each) for norm, each, number in theirs.tolist() if norm in normalised)
    assert found.totals.num_normalised == len(near)
    assert found.totals.num_exact == sum((norm, each) in exact for _, norm, each in near)
    for pair, (number, norm, each) in zip(found.pairs, near, strict=False):
        assert pair.validation_line == number
        assert pair.exact == ((norm, each) in exact)
        assert pair.line in (normalised[norm] if not pair.exact else {exact[norm, each]})
    assert len(found.pairs) == min(len(near), 20)


def test_memory_does_not_grow_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "SPILL_ENTRIES", 2**12)
    peaks = []
    for count in (2**13, 2**18):
        entries = np.zeros((count, 3), "<u8")
        entries[:, 0] = entries[:, 1] = np.arange(count, dtype="<u8") * np.uint64(2**40)
        entries[:, 2] = np.arange(1, count + 1)
        (tmp_path / "t").write_bytes(entries.tobytes())
        tracemalloc.start()
        assert find_overlap(tmp_path / "t", tmp_path / "t", 1000).totals.num_exact == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_a_truncated_file_of_hashes_is_refused(tmp_path: Path) -> None:
    class Store:
        def read(self, key: str, start: int = 0, end: int | None = None) -> Any:
            return iter([bytes(24), bytes(23)])

    with pytest.raises(DamagedHashes):
        fetch_hashes(Store(), "key", tmp_path / "cut")


def test_the_events_message_names_the_first_lines(tmp_path: Path) -> None:
    training = write_hashes(tmp_path, "t", text(*map(str, range(30))))
    totals, shown = find_overlap(training, training, 2)
    event = ValidationOverlap(**totals.model_dump(), pairs=shown)
    assert event.message == (
        "30 of 30 validation rows are also training rows, 30 of them exactly "
        "(validation/training lines: 1/1, 2/2 …). They make the validation loss too low."
    )
