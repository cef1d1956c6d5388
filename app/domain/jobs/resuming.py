"""Describes how a job resumes from a checkpoint: exactly, or with differences from an uninterrupted training."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

OnInexactResume = Literal["continue", "wait", "fail"]


class Difference(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    before: Any
    """The value when the checkpoint was saved."""
    now: Any


class InexactResume(BaseModel):
    """A resume after which, from `step` on, numbers may differ from those of an uninterrupted training."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    step: int
    differs: dict[str, Difference]
    """Differences by dotted name: `machine.threads`, `spec.training.learning_rate`."""
