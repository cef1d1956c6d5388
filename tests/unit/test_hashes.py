"""Checks the file of row hashes: its layout, its order, and that it is sorted without being held in memory."""

import random
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import xxhash

from tests.fixtures.inspection import inspect_lines, line
from worker.inspection import duplicates as hashes
from worker.inspection.duplicates import ENTRY_BYTES, Entries, Hashes, duplicates, entries, normalise, normalise_any


def read(data: bytes) -> list[tuple[int, int, int]]:
    """Read the documented layout, without the service's code."""
    return [struct.unpack("<QQQ", data[at : at + 24]) for at in range(0, len(data), 24)]


def test_the_layout_is_the_documented_one() -> None:
    rows = [{"prompt": "One\n two ", "completion": "B"}, {"completion": "B", "prompt": "One\n two "}]
    found = read(inspect_lines(map(line, [*rows, {"prompt": "x"}])).hashes)
    exact = xxhash.xxh3_64_intdigest(b"One\n two \x1fB")
    normalised = xxhash.xxh3_64_intdigest(b"one two\x1fb")
    assert found == [(normalised, exact, 1), (normalised, exact, 2)]


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("a", "a"),
        ("  A\t\r\n b ", "a b"),
        ("a \x1f b", "a\x1fb"),
        ("a \n", "a"),
        ("a\r\n\r\n\x1f \n b  \x1f  ", "a\x1fb\x1f"),
        ("\x1f", "\x1f"),
        ("", ""),
        (" ", ""),
        ("É  È", "É È"),
        ("a\0b", "a\x01b"),
        ("1 2", "1 2"),
        ("12", "12"),
    ],
)
def test_normalised_texts(text: str, normalised: str) -> None:
    assert normalise_any([b"x", text.encode(), b""]) == [b"x", normalised.encode(), b""]
    other = normalise(b"\x1e".join([b"x", text.encode(), b"y  Z"]), 3, 3 + text.count("\x1f"))
    assert list(map(bytes, other.rows)) == [b"x", normalised.encode(), b"y z"]


def make_entries(rng: random.Random, count: int, num_keys: int) -> Entries:
    """Make entries with repeated hashes."""
    found = np.empty((count, 3), "<u8")
    for index in range(count):
        key = rng.randrange(num_keys)
        normalised = rng.choice([key * 2**40 % 2**64, key, 2**64 - 1 - key])
        found[index] = (normalised, normalised ^ rng.randrange(2), index + 1)
    return found


@pytest.mark.parametrize("num_keys", [1, 3, 700, 10**9])
def test_many_entries_are_sorted_with_few_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_keys: int
) -> None:
    """The entries are divided by one byte after another, until few enough fit in memory."""
    monkeypatch.setattr(hashes, "SPILL_ENTRIES", 50)
    monkeypatch.setattr(hashes, "SORTED_ENTRIES", 60)
    all_of_them = make_entries(random.Random(num_keys), 700, num_keys)
    kept = Hashes(tmp_path)
    for start in range(0, len(all_of_them), 70):
        kept.add(all_of_them[start : start + 70])
    path = tmp_path / "sorted"
    kept.write(path)
    found = np.concatenate(list(entries(path))).tolist()
    assert found == sorted(all_of_them.tolist())
    assert [each.name for each in tmp_path.iterdir()] == ["sorted"]
    same = list(duplicates(path))
    exact, near = sum(len(each.exact) for each in same), sum(len(each.near) for each in same)
    assert exact == sum(count - 1 for count in Counter((a, b) for a, b, _ in found).values())
    assert exact + near == sum(count - 1 for count in Counter(a for a, *_ in found).values())
    assert path.stat().st_size == len(all_of_them) * ENTRY_BYTES
