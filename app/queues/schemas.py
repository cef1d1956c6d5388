"""Defines the response body for queue lengths."""

from pydantic import BaseModel, ConfigDict

from app.queues.repository import QueueLengths


class TrainingQueue(BaseModel):
    """Counts the jobs of all projects."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    queued: int
    running: int
    """Counts the jobs that a worker holds, including those that it is releasing."""


class LightQueue(BaseModel):
    """Counts the work that waits for light workers, including work in progress."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    uploads: int
    """Counts the completed uploads whose parts are not assembled yet."""
    datasets: int
    """Counts the datasets that are not inspected yet."""
    dataset_checks: int
    """Counts previews and overlap checks."""
    webhook_deliveries: int
    """Counts the pending deliveries, including those that wait for their next try."""


class Wakeups(BaseModel):
    """Counts messages to workers that the dispatcher has not sent yet; without one, a worker looks for work a little
    later."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    count: int
    oldest_seconds: float | None
    """Gives the age of the oldest. If it is more than a few seconds, the dispatcher does not run, or Redis does not
    answer."""


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
