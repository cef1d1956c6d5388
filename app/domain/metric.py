"""Defines MetricPoint, the values measured at one optimizer step."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class MetricPoint(BaseModel):
    """Values at one optimizer step, by name. `number` counts the points of one attempt from 1, without gaps."""

    model_config = ConfigDict(frozen=True)

    attempt: int
    number: int
    step: int
    measured_at: datetime
    values: dict[str, float]
