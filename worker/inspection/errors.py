"""What keeps a file, or one row of it, from being read."""

from app.domain.datasets.container import CONTAINER_CODES
from app.domain.datasets.problem import Finding


class Broken(Exception):
    """The file cannot be read on."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        assert code in CONTAINER_CODES
        self.finding = Finding("", code, message)


class Unreadable(Exception):
    """The same, once it is known where: the number of the line that would have come next, from 1."""

    def __init__(self, line: int, finding: Finding) -> None:
        super().__init__(f"line {line}: {finding.message}")
        self.line, self.finding = line, finding


class Flawed(bytes):
    """A line in place of a row that the container holds but that cannot be made a JSON object; `finding` says why.

    Its bytes are what could be read of the row, and never a JSON object: a reader that knows nothing of flaws refuses
    it too."""

    finding: Finding

    @classmethod
    def of(cls, line: bytes, code: str, message: str) -> "Flawed":
        assert code in CONTAINER_CODES
        flawed = cls(line)
        flawed.finding = Finding("", code, message)
        return flawed
