"""Defines the response body for queue lengths."""

from pydantic import BaseModel, ConfigDict

from app.queues.repository import QueueLengths


class TrainingQueue(BaseModel):
    """Number of jobs of all projects."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    queued: int
    running: int
    """Jobs that a worker holds, including those that it is releasing."""


class LightQueue(BaseModel):
    """Work that waits for light workers, including work in progress."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    uploads: int
    """Completed uploads whose parts are not assembled yet."""
    datasets: int
    """Datasets that are not inspected yet."""
    dataset_checks: int
    """Previews and overlap checks."""
    webhook_deliveries: int
    """Pending deliveries, including those that wait for their next try."""


class Wakeups(BaseModel):
    """Wake-ups for workers that the dispatcher has not sent yet. Without a wake-up, a worker finds the work a little
    later."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    count: int
    oldest_seconds: float | None
    """Age of the oldest wake-up. More than a few seconds means that the dispatcher is not running or that Redis is
    unreachable."""


class Queues(BaseModel):
    training: TrainingQueue
    light: LightQueue
    wakeups: Wakeups

    @classmethod
    def of(cls, lengths: QueueLengths) -> "Queues":
        return cls(
            training=TrainingQueue(queued=lengths.queued_jobs, running=lengths.running_jobs),
            light=LightQueue(
                uploads=lengths.uploads,
                datasets=lengths.datasets,
                dataset_checks=lengths.dataset_checks,
                webhook_deliveries=lengths.deliveries,
            ),
            wakeups=Wakeups(count=lengths.wakeups, oldest_seconds=lengths.oldest_wakeup_seconds),
        )
