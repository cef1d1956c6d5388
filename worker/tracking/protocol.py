"""Defines the messages of a tracking process: JSON lines, with one answer to each line.

If stdin ends without a `CloseRun`, the worker has ended, and the job's next attempt continues the run."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app.domain.integration import Integration
from app.domain.jobs.state import JobState


class TrackingMessage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Open(TrackingMessage):
    """Start the job's run, or resume an existing one."""

    type: Literal["open"] = "open"
    integration: Integration
    job_id: str
    name: str
    """Is the job's name, used if the integration names no run."""
    config: dict[str, Any]
    """Holds the job's spec."""
    file: Path
    """Receives TensorBoard's events."""


class Step(TrackingMessage):
    step: int
    at: float
    """Is the Unix time in seconds."""
    values: dict[str, float]


class Steps(TrackingMessage):
    """Complete steps in order, each sent once."""

    type: Literal["steps"] = "steps"
    steps: list[Step]


class CloseRun(TrackingMessage):
    """Close the run with the job's state at the end of the attempt."""

    type: Literal["close"] = "close"
    state: JobState


class Done(TrackingMessage):
    type: Literal["done"] = "done"
    last_step: int | None = None
    """Is the last step that an opened run already has."""


class TrackingFailed(TrackingMessage):
    type: Literal["failed"] = "failed"
    why: str
    """Describes the failure, with secrets removed."""


TrackingRequest = Annotated[Open | Steps | CloseRun, Field(discriminator="type")]
Answer = Annotated[Done | TrackingFailed, Field(discriminator="type")]
parse_request: TypeAdapter[TrackingRequest] = TypeAdapter(TrackingRequest)
parse_answer: TypeAdapter[Answer] = TypeAdapter(Answer)
