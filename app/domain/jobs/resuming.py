"""How a job goes on from a checkpoint: exactly, or with what differs from an uninterrupted training."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

OnInexactResume = Literal["continue", "wait", "fail"]


class Difference(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    before: Any
    """When the checkpoint was written."""
    now: Any


class InexactResume(BaseModel):
    """From `step` on the numbers may differ from those of an uninterrupted training."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    step: int
    differs: dict[str, Difference]
    """By dotted name: `machine.threads`, `spec.training.learning_rate`."""
