"""Defines the response body for a job's curves."""

from pydantic import BaseModel, ConfigDict

from app.domain.metric import MetricPoint


class MetricList(BaseModel):
    """Holds a job's curves: for each step the point that counts, ordered by step."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    items: list[MetricPoint]
    next_after_step: int | None
    """Gives the `after_step` of the next page; null if there is nothing more yet, or a range was requested."""
    downsampled: bool
    """Is true if the range contains more points; only the extremes are returned."""
