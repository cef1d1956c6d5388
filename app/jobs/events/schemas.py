"""Defines the response bodies for a job's events."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class EventOut(BaseModel):
    """A fact about a job. `type` is a stable code, `data` its details, `message` its text for people."""

    model_config = ConfigDict(
        from_attributes=True,
        use_attribute_docstrings=True,
        json_schema_extra={
            "example": {
                "number": 7,
                "type": "checkpoint_saved",
                "level": "info",
                "message": "Saved a checkpoint at step 100.",
                "data": {"step": 100},
                "created_at": "2026-01-05T10:12:13Z",
            }
        },
    )

    number: int
    type: str
    level: str
    message: str
    data: dict[str, Any]
    created_at: datetime


class EventList(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    items: list[EventOut]
    """Events, oldest first."""
    next_after: int | None
    """The `after` of the next page; null if there is nothing more yet."""
    stream_cursor: str
    """Number of the last event of this page; without events, of the job's last one. It is the first part of a stream's
    `after`."""
