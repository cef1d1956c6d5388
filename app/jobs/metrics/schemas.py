"""A job's curves on the wire."""

from pydantic import BaseModel, ConfigDict

from app.domain.metric import MetricPoint


class MetricList(BaseModel):
    """A job's curves: for each step the point that counts, by step."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    items: list[MetricPoint]
    next_after_step: int | None
    """Send it as `after_step` for what follows; null when nothing more is there yet, or a range was asked for."""
    downsampled: bool
    """Whether the range holds more points; those shown are the extremes."""
