"""What the inspecting process is told, and what it leaves: files in the folder it works in.

Its stdin is one line, an `InspectionRequest`, and then the file itself to its end. It ends with 0 once all its files
are written, and with another code where it could not: `REPORT`, `PROBLEMS` and `GROUPS` (a Problem a line) and
`HASHES`; or, where it was to clean, `ROWS` alone. `ROWS` is there too where the file is no JSON Lines itself. What it
prints is for the log.
"""

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from app.domain.datasets.formats import RecordFormat

REPORT: Final = "report.json"
PROBLEMS: Final = "problems.jsonl"
GROUPS: Final = "problem_groups.jsonl"
HASHES: Final = "rows.hashes"
ROWS: Final = "rows.jsonl"


class Task(StrEnum):
    inspect = "inspect"
    clean = "clean"
    """Write the rows without an error."""


class InspectionRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task
    filename: str
    """The upload's, a label."""
    unsafe_filename: bool = False
    """Something that does not print was taken out of it."""
    format: RecordFormat | None
    """As it was named; null lets it be found."""
    columns: dict[str, str] | None = None
    """By the field that is read, the file's own name of it."""
    drop_duplicates: bool = False
    """Of rows whose texts are the same to the letter, clean all but the first away."""
    memory_bytes: int
    """Most memory it may address."""
    cpu_seconds: int
    max_file_bytes: int
    """Largest file it may write."""
