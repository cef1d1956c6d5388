"""Defines the errors that prevent a file, or one row of it, from being read."""

from app.domain.datasets.container import CONTAINER_CODES
from app.domain.datasets.problem import Finding


class Broken(Exception):
    """Raised when the rest of the file cannot be read."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        assert code in CONTAINER_CODES
        self.finding = Finding("", code, message)


class Unreadable(Exception):
    """Raised in place of Broken once the position is known: the number of the next line, counted from 1."""

    def __init__(self, line: int, finding: Finding) -> None:
        super().__init__(f"line {line}: {finding.message}")
        self.line, self.finding = line, finding


class Flawed(bytes):
    """Replaces a row of the container that cannot become a JSON object; `finding` says why.

    Its bytes are the readable part of the row and never a JSON object, so that a reader without support for flawed
    lines rejects it too."""

    finding: Finding

    @classmethod
    def of(cls, line: bytes, code: str, message: str) -> "Flawed":
        assert code in CONTAINER_CODES
        flawed = cls(line)
        flawed.finding = Finding("", code, message)
        return flawed
