"""What a tracking process hears and answers: JSON lines, one answer to each line that it hears.

Its stdin's end without a `CloseRun` means that the worker is gone: whoever takes the job up next goes on with its run.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app.domain.integration import Integration
from app.domain.jobs.state import JobState


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Open(Part):
    """Begin the job's run, or go on with the one that it has."""

    type: Literal["open"] = "open"
    integration: Integration
    job_id: str
    name: str
    """Of the job, for a run that has none of its own."""
    config: dict[str, Any]
    """The spec."""
    file: Path
    """What TensorBoard's events are written to."""


class Step(Part):
    step: int
    at: float
    """Unix seconds."""
    values: dict[str, float]


class Steps(Part):
    """In their order, each step once and whole."""

    type: Literal["steps"] = "steps"
    steps: list[Step]


class CloseRun(Part):
    """How the job stands as its attempt ends."""

    type: Literal["close"] = "close"
    state: JobState


class Done(Part):
    type: Literal["done"] = "done"
    last_step: int | None = None
    """Of an opened run: what it has already."""


class Failed(Part):
    type: Literal["failed"] = "failed"
    why: str
    """Without a secret in it."""


Heard = Annotated[Open | Steps | CloseRun, Field(discriminator="type")]
Answer = Annotated[Done | Failed, Field(discriminator="type")]
parse_heard: TypeAdapter[Heard] = TypeAdapter(Heard)
parse_answer: TypeAdapter[Answer] = TypeAdapter(Answer)
