"""Overlaps: rows of a validation dataset that stand in the training dataset too."""

from typing import Final

from app.domain.datasets.report import Part
from app.domain.jobs.spec import DatasetId, SpecPart

MAX_PAIRS: Final = 1000


class OverlapSpec(SpecPart):
    """What to compare the dataset with."""

    validation_dataset_id: DatasetId


class Pair(Part):
    """A validation row, and a row of the dataset with the same texts."""

    validation_line: int
    line: int
    """The first such row where the texts are the same to the letter."""
    exact: bool
    """To the letter; otherwise but for white space and the case of the letters A to Z."""


class OverlapTotals(Part):
    """Rows with an error are not among those compared."""

    num_rows: int
    num_validation_rows: int
    num_exact: int
    """Validation rows whose texts a row of the dataset has to the letter."""
    num_normalised: int
    """But for white space and the case of the letters A to Z; those to the letter are among them."""
