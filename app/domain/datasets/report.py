"""Defines the states of a dataset and the report of an inspection. Pure functions only."""

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from app.domain.datasets.formats import RecordFormat
from app.domain.datasets.problem import Finding, Problem, Severity, severity_of

SHOWN_PROBLEMS: Final = 10


class DatasetState(StrEnum):
    """Lists the states: uploading → inspecting → ready | invalid. Only datasets from parts are ever `uploading`:
    from the upload's completion until a light worker has assembled the parts. A crash during that or during an
    inspection leaves the state, and the next light worker that polls finishes the work. An interrupted upload
    leaves no dataset."""

    uploading = "uploading"
    inspecting = "inspecting"
    ready = "ready"
    invalid = "invalid"


class ReportPart(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Bin(ReportPart):
    """Number of rows between two values, both inclusive."""

    min: int
    max: int
    num_rows: int


class Duplicates(ReportPart):
    """Number of rows with the same texts as an earlier row, ignoring roles and other keys."""

    exact: int = 0
    """Number of rows with exactly the same texts."""
    normalised: int = 0
    """Number of rows with the same texts, ignoring white space and the case of the letters A to Z. Exact ones are
    included."""


class Statistics(ReportPart):
    """Statistics of a file's content. Their size is bounded, whatever the file contains."""

    container: str = "jsonl"
    """Container format: `jsonl`, `json`, `csv`, `parquet` or `text`."""
    compression: str = "none"
    """Compression: `none`, `gzip` or `zstd`."""
    container_reason: str = ""
    """How container and compression were recognized."""
    num_blank_lines: int = 0
    num_empty_rows: int = 0
    """Number of rows without text to learn, which are also counted as bad rows."""
    num_long_rows: int = 0
    """Number of rows whose texts are longer than 131,072 characters."""
    columns: dict[str, int] = {}
    """Number of rows with each key: the first 64 keys found, each truncated to 100 characters."""
    has_more_columns: bool = False
    """Whether the rows have more keys than `columns` lists."""
    duplicates: Duplicates = Duplicates()
    roles: dict[str, int] = {}
    """Number of turns by role, in conversations without an error."""
    turns: list[Bin] = []
    """Number of conversations by number of turns, in the same rows."""
    lengths: list[Bin] = []
    """Number of rows without an error by the length of their texts, in powers of two of characters, which are
    comparable across languages."""


class Report(ReportPart):
    """The result of an inspection."""

    format: RecordFormat | None
    format_reason: str = ""
    """Why the format was chosen."""
    num_examples: int
    """Number of rows that are not blank."""
    num_bad_rows: int = 0
    """Number of rows with an error."""
    problems: list[Problem]
    """The first ten problems, grouped by message: errors before warnings, the most frequent first."""
    problem_counts: dict[str, int]
    """Number of problems by code, at most a hundred per row."""
    statistics: Statistics = Statistics()
    was_read_whole: bool = False
    """Whether the file has rows and was read completely."""

    @property
    def valid(self) -> bool:
        """Say whether the dataset can be trained on. Warnings do not prevent it."""
        return all(severity_of(code) is Severity.warning for code in self.problem_counts)

    @property
    def bad_share(self) -> float | None:
        """Return the share of rows that must be left out to train on the others. Returns None if leaving rows out does
        not help: the file was not read to its end, has rows of several formats, or has no good row."""
        if not self.was_read_whole or "mixed_formats" in self.problem_counts:
            return None
        return self.num_bad_rows / self.num_examples if self.num_bad_rows < self.num_examples else None


def failed_report(finding: Finding, format: RecordFormat | None) -> Report:
    """Create the report of a file that was not read at all."""
    problem = Problem.of(1, finding)
    return Report(format=format, num_examples=0, problems=[problem], problem_counts={problem.code: 1})
