"""A few of the malformed files that `make fuzz` inspects by the hundred thousand."""

from pathlib import Path

import pytest

from tests.fuzz.__main__ import check_in_process
from tests.fuzz.datasets import check_file

FILES = 400
FIRST = 1_000_000
"""`make fuzz` begins at 0."""


def test_no_file_breaks_an_inspection(tmp_path: Path) -> None:
    valid = sum(check_file(seed, tmp_path).valid for seed in range(FIRST, FIRST + FILES))
    assert FILES / 20 < valid < FILES / 2, "neither the good files nor the bad ones are a few odd cases"


@pytest.mark.parametrize("seed", range(FIRST, FIRST + 5))
def test_a_process_tells_the_same(seed: int, tmp_path: Path) -> None:
    check_in_process(seed, tmp_path)


def test_other_columns_do_not_make_a_row_another_formats_unseen(tmp_path: Path) -> None:
    """Texts with an instruction, and texts with an output, and then one with both."""
    check_file(296_995, tmp_path)
