"""A job's run at a tracker, whichever that is."""

from collections.abc import Sequence
from typing import Any, Protocol

from app.domain.jobs.state import JobState
from worker.tracking.protocol import Step


class Run(Protocol):
    last_step: int | None
    """What the tracker had when the run was opened."""

    def log(self, steps: Sequence[Step]) -> None: ...

    def close(self, state: JobState) -> None:
        """A job that is neither succeeded nor failed nor cancelled will go on with the run."""


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """By dotted names."""
    named: dict[str, Any] = {}
    for name, value in config.items():
        named |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return named
