"""Webhooks: what a receiver is told of, and where the telling stands."""

import json
from enum import StrEnum
from typing import Final, Literal

from app.domain.jobs.state import JobState

JobEventType = Literal[
    "fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled", "fine_tuning.job.paused"
]
TOLD: Final[dict[JobState, JobEventType]] = {
    JobState.succeeded: "fine_tuning.job.succeeded",
    JobState.failed: "fine_tuning.job.failed",
    JobState.cancelled: "fine_tuning.job.cancelled",
    JobState.paused: "fine_tuning.job.paused",
}
"""States of a job whose coming is told. The words and the shape are OpenAI's; `paused` is ours."""
TEST_TYPE: Final = "webhook.test"


class DeliveryState(StrEnum):
    """pending    waits for its first or next try. A crash leaves it here, and it is tried once more.
    delivered  the receiver answered with a status of 2xx.
    failed     a day of tries went by without that.
    """

    pending = "pending"
    delivered = "delivered"
    failed = "failed"


def event_body(id: str, type: str, created_at: int, about: str) -> str:
    """The very bytes that are sent, at each try alike. `created_at` is in Unix seconds; `about` is a job's id."""
    event = {"id": id, "object": "event", "created_at": created_at, "type": type, "data": {"id": about}}
    return json.dumps(event, separators=(",", ":"))
