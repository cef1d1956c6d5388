"""Defines the interface of a job's run at any tracker."""

from collections.abc import Sequence
from typing import Any, Protocol

from app.domain.jobs.state import JobState
from worker.tracking.protocol import Step


class Run(Protocol):
    last_step: int | None
    """Is the last step that the tracker had when the run was opened."""

    def log(self, steps: Sequence[Step]) -> None: ...

    def close(self, state: JobState) -> None:
        """Close the run. Unless the job has succeeded, failed or been cancelled, a later attempt continues it."""


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings into dotted names."""
    named: dict[str, Any] = {}
    for name, value in config.items():
        named |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return named
