"""Inspects a few malformed files; `make fuzz` inspects a hundred thousand."""

from pathlib import Path

import pytest

from tests.fuzz.__main__ import check_in_process
from tests.fuzz.datasets import check_file

FILES = 400
FIRST = 1_000_000
"""`make fuzz` begins at seed 0."""


def test_no_file_breaks_an_inspection(tmp_path: Path) -> None:
    valid = sum(check_file(seed, tmp_path).valid for seed in range(FIRST, FIRST + FILES))
    assert FILES / 20 < valid < FILES / 2, "good files and bad files must both be common"


@pytest.mark.parametrize("seed", range(FIRST, FIRST + 5))
def test_an_inspection_process_reports_the_same(seed: int, tmp_path: Path) -> None:
    check_in_process(seed, tmp_path)


def test_a_row_with_the_columns_of_another_format_is_noticed(tmp_path: Path) -> None:
    """The file has texts with an instruction, texts with an output, and then one with both."""
    check_file(296_995, tmp_path)
