"""Defines the response bodies for datasets."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from app.db.dataset_tables import DatasetProblemGroup
from app.db.tables import Dataset, DatasetProblem
from app.domain.datasets.formats import RecordFormat
from app.domain.datasets.problem import Problem, Severity
from app.domain.datasets.report import DatasetState, Report, Statistics
from app.web.api_model import from_row

PROBLEM: dict[str, Any] = {
    "line": 17,
    "pointer": "/messages",
    "code": "no_trainable_text",
    "severity": "error",
    "message": "There is no assistant turn with content and weight 1; add one.",
    "count": 3,
    "lines": [17, 20, 21],
}
EXAMPLE: dict[str, Any] = {
    "id": "file-5f0c1d2e3a4b5c6d7e8f9a0b",
    "filename": "tickets.jsonl",
    "state": "invalid",
    "bytes": 48213,
    "sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    "format": "messages",
    "format_reason": "Line 1 has the keys messages.",
    "columns": None,
    "num_examples": 312,
    "num_bad_rows": 3,
    "problems": [PROBLEM],
    "problem_counts": {"no_trainable_text": 3, "consecutive_same_role": 4},
    "statistics": {
        "container": "jsonl",
        "compression": "none",
        "container_reason": "The name ends in .jsonl, and the first line is a JSON object.",
        "num_blank_lines": 0,
        "num_empty_rows": 3,
        "num_long_rows": 0,
        "columns": {"messages": 312, "id": 312},
        "has_more_columns": False,
        "duplicates": {"exact": 0, "normalised": 2},
        "roles": {"user": 402, "assistant": 398},
        "turns": [{"min": 2, "max": 2, "num_rows": 266}, {"min": 4, "max": 4, "num_rows": 45}],
        "lengths": [{"min": 64, "max": 127, "num_rows": 300}, {"min": 128, "max": 255, "num_rows": 11}],
    },
    "cleaned_from": None,
    "created_at": "2026-01-05T10:12:13.141593Z",
    "expires_at": None,
}


class DatasetOut(BaseModel):
    """An uploaded file of rows. It is `inspecting` until a worker has read it; an `invalid` one cannot be trained on. A
    dataset uploaded in parts is `uploading` until they are assembled."""

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra={"example": EXAMPLE})

    id: str
    filename: str
    """Base name of the uploaded file: a label, never a path."""
    state: DatasetState
    bytes: int
    """Size of the uploaded file; 0 for a cleaned dataset that is not written yet."""
    sha256: str | None
    """SHA-256 of the stored bytes, in lower-case hex; null while the dataset is `uploading` or not written yet."""
    format: RecordFormat | None
    """Format of the rows, set at the upload or detected; null before the inspection, or if no row matches a format."""
    format_reason: str | None
    """Why the dataset has this format; null before the inspection."""
    columns: dict[str, str] | None
    """Each field that is read, with its name in the file, as set at the upload; null if none was set."""
    num_examples: int | None
    """Number of rows that are not blank; null before the inspection."""
    num_bad_rows: int | None
    """Number of rows with an error; null before the inspection."""
    problems: list[Problem]
    """The first ten problems, with equal ones grouped: errors before warnings, the most frequent first.
    `/datasets/{id}/problems` lists all."""
    problem_counts: dict[str, int]
    """Number of problems by code; at most a hundred per row are counted."""
    statistics: Statistics | None
    """Statistics of the file's content; null before the inspection."""
    cleaned_from: str | None
    """Id of the dataset whose valid rows it contains, which may have been deleted since."""
    created_at: datetime
    expires_at: datetime | None
    """When the dataset is deleted, postponed while an unfinished job uses it; null for never."""

    @classmethod
    def of(cls, dataset: Dataset) -> "DatasetOut":
        report = Report.model_validate(dataset.report) if dataset.report else None
        return from_row(
            cls,
            dataset,
            bytes=dataset.size,
            sha256=dataset.sha256 or None,
            format=dataset.format or None,
            format_reason=report.format_reason if report else None,
            num_bad_rows=report.num_bad_rows if report else None,
            problems=report.problems if report else [],
            problem_counts=report.problem_counts if report else {},
            statistics=report.statistics if report else None,
        )


class ProblemOut(BaseModel):
    """A problem of a dataset. A row with an `error` cannot be trained on; a row with a `warning` can."""

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra={"example": PROBLEM})

    line: int
    """Line of the file, from 1; number of the row if the file has no lines."""
    pointer: str
    """JSON pointer (RFC 6901) into the row; empty for the whole row."""
    code: str
    severity: Severity
    message: str
    """What was found, and what to write instead."""
    count: int
    """How often the problem was found; 1 if each row is listed."""
    lines: list[int]
    """The first ten lines with the problem; `line` is the first of them."""

    @classmethod
    def of(cls, problem: DatasetProblem | DatasetProblemGroup) -> "ProblemOut":
        one = {"count": 1, "lines": [problem.line]} if isinstance(problem, DatasetProblem) else {}
        return from_row(cls, problem, **one)


class ProblemPage(BaseModel):
    """A page of problems, grouped or one by one by line. The first thousand of each code are stored."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    items: list[ProblemOut]
    problem_counts: dict[str, int]
    """Number of all problems by code, including those that are not stored."""
    next_cursor: str | None
    """The `cursor` of the next page; null on the last page."""
