"""Defines overlaps: rows of a validation dataset that are also in the training dataset."""

from typing import Final

from app.domain.datasets.report import Part
from app.domain.jobs.spec import DatasetId, SpecPart

MAX_PAIRS: Final = 1000


class OverlapSpec(SpecPart):
    """Names the validation dataset to compare the dataset with."""

    validation_dataset_id: DatasetId


class Pair(Part):
    """Pairs a validation row with a row of the dataset that has the same texts."""

    validation_line: int
    line: int
    """Gives the line of the dataset's row: the first one, if the texts are exactly the same."""
    exact: bool
    """Is true if the texts are exactly the same, false if they differ in white space or the case of the letters A
    to Z."""


class OverlapTotals(Part):
    """Counts the compared rows. Rows with an error are not compared."""

    num_rows: int
    num_validation_rows: int
    num_exact: int
    """Counts validation rows with exactly the same texts as a row of the dataset."""
    num_normalised: int
    """Counts validation rows with the same texts, ignoring white space and the case of the letters A to Z. Exact ones
    are included."""
