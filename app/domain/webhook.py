"""Defines webhooks: the events that a receiver gets, and the states of a delivery."""

import json
from enum import StrEnum
from typing import Final, Literal

from app.domain.jobs.state import JobState

JobEventType = Literal[
    "fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled", "fine_tuning.job.paused"
]
EVENT_TYPES: Final[dict[JobState, JobEventType]] = {
    JobState.succeeded: "fine_tuning.job.succeeded",
    JobState.failed: "fine_tuning.job.failed",
    JobState.cancelled: "fine_tuning.job.cancelled",
    JobState.paused: "fine_tuning.job.paused",
}
"""Maps each job state that sends an event to the event's type. Types and bodies are OpenAI's, except `paused`."""
TEST_TYPE: Final = "webhook.test"


class DeliveryState(StrEnum):
    """Lists the states of a delivery.

    pending    waits for its first or next try. A crash leaves it pending, and it is tried again.
    delivered  the receiver answered with a status of 2xx.
    failed     the receiver did not answer so within a day.
    """

    pending = "pending"
    delivered = "delivered"
    failed = "failed"


def event_body(id: str, type: str, created_at: int, about: str) -> str:
    """Return the bytes to send, the same at each try. `created_at` is in Unix seconds; `about` is a job's id."""
    event = {"id": id, "object": "event", "created_at": created_at, "type": type, "data": {"id": about}}
    return json.dumps(event, separators=(",", ":"))
