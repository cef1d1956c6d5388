"""Defines the inspection process's request and the names of the files that it leaves in its working folder.

Its stdin is one line, an `InspectionRequest`, followed by the whole file. It exits with 0 once all its files are
written, otherwise with another code. An inspection writes `REPORT`, `PROBLEMS` and `GROUPS` (one Problem per line) and
`HASHES`, and `ROWS` if the file is not JSON Lines. Cleaning writes only `ROWS`. The output that it prints is for the
log."""

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from app.domain.datasets.formats import RecordFormat

REPORT: Final = "report.json"
PROBLEMS: Final = "problems.jsonl"
GROUPS: Final = "problem_groups.jsonl"
HASHES: Final = "rows.hashes"
ROWS: Final = "rows.jsonl"


class InspectionTask(StrEnum):
    inspect = "inspect"
    clean = "clean"
    """Write the rows without an error."""


class InspectionRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    task: InspectionTask
    filename: str
    """Names the upload's file, as a label only."""
    unsafe_filename: bool = False
    """Says whether unprintable characters were removed from the file name."""
    format: RecordFormat | None
    """Is the format that the user named; null to detect it."""
    columns: dict[str, str] | None = None
    """Maps each field to the file's name for it."""
    drop_duplicates: bool = False
    """Keep only the first of several rows with identical texts when cleaning."""
    memory_bytes: int
    """Limits the process's address space."""
    cpu_seconds: int
    max_file_bytes: int
    """Limits the size of a file that the process writes."""
