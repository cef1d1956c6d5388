"""Defines the response body for a job's curves."""

from pydantic import BaseModel, ConfigDict

from app.domain.metric import MetricPoint


class MetricList(BaseModel):
    """A job's curves: for each step the point that counts, ordered by step."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    items: list[MetricPoint]
    next_after_step: int | None
    """The `after_step` of the next page; null if there is nothing more yet, or a range was requested."""
    downsampled: bool
    """Whether the range contains more points; if so, only the extremes are returned."""
    stream_cursor: str
    """Attempt and number of the newest point that is stored: the part of a stream's `after` that follows the event's
    number. Of several pages, the first one's misses no point."""
