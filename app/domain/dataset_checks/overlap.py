"""Defines overlaps: rows of a validation dataset that are also in the training dataset."""

from typing import Final

from app.domain.datasets.report import ReportPart
from app.domain.jobs.spec import DatasetId
from app.domain.spec_part import SpecPart

MAX_PAIRS: Final = 1000


class OverlapSpec(SpecPart):
    """The validation dataset to compare the dataset with."""

    validation_dataset_id: DatasetId


class Pair(ReportPart):
    """A validation row and a row of the dataset with the same texts."""

    validation_line: int
    line: int
    """Line of the dataset's row: the first such row, if the texts are exactly the same."""
    exact: bool
    """True if the texts are exactly the same, false if they differ in white space or the case of the letters A to Z."""


class OverlapTotals(ReportPart):
    """Counts of the compared rows. Rows with an error are not compared."""

    num_rows: int
    num_validation_rows: int
    num_exact: int
    """Number of validation rows with exactly the same texts as a row of the dataset."""
    num_normalised: int
    """Number of validation rows with the same texts, ignoring white space and the case of the letters A to Z. Exact
    ones are included."""
