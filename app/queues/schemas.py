"""Queue lengths on the wire."""

from pydantic import BaseModel, ConfigDict

from app.queues.repository import QueueLengths


class TrainingQueue(BaseModel):
    """Jobs of all projects."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    queued: int
    running: int
    """Held by a worker, with those that it is still letting go of."""


class LightQueue(BaseModel):
    """What waits for light workers, with what they have begun."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    uploads: int
    """Completed uploads whose parts are yet to be put together."""
    datasets: int
    """Datasets that are yet to be inspected."""
    dataset_checks: int
    """Previews and overlaps."""
    webhook_deliveries: int
    """Also those that wait for their next try."""


class Wakeups(BaseModel):
    """Messages to workers that the dispatcher has yet to send; a worker without one looks for work a little later."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    count: int
    oldest_seconds: float | None
    """Age of the oldest. More than a few seconds: the dispatcher does not run, or Redis does not answer."""


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
