"""Writes a job's run at MLflow. One tag identifies the run, another stores its last step."""

import re
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from app.domain.integration import Mlflow
from app.domain.jobs.state import JobState
from worker.tracking.protocol import Open, Step
from worker.tracking.run import flatten

T = TypeVar("T")

JOB, STEP = "tunewright.job_id", "tunewright.step"
STATUSES: Final = {
    JobState.succeeded: "FINISHED",
    JobState.failed: "FAILED",
    JobState.cancelled: "KILLED",
}
MAX_PARAMS, MAX_METRICS = 100, 1000
"""MLflow accepts no more in one request."""
MAX_CHARS, MAX_NAME_CHARS = 6000, 250
"""MLflow accepts no longer parameters."""
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.\- ]")


class MlflowWriter:
    def __init__(self, asked: Open) -> None:
        assert isinstance(asked.integration, Mlflow)
        self._client = MlflowClient()
        wanted = asked.integration.mlflow
        experiment = self._experiment(wanted.experiment)
        found = self._client.search_runs([experiment], f"tags.`{JOB}` = '{asked.job_id}'", max_results=1)
        if found:
            self._id = found[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            last_step = found[0].data.tags.get(STEP)
            self.last_step = None if last_step is None else int(last_step)
            return
        tags = {JOB: asked.job_id}
        self._id = self._client.create_run(experiment, tags=tags, run_name=wanted.name or asked.name).info.run_id
        self.last_step = None
        params = {NOT_IN_NAMES.sub("_", name)[:MAX_NAME_CHARS]: value for name, value in flatten(asked.config).items()}
        for some in split([Param(name, str(value)[:MAX_CHARS]) for name, value in params.items()], MAX_PARAMS):
            self._client.log_batch(self._id, params=some, synchronous=True)

    def log(self, steps: Sequence[Step]) -> None:
        metrics = [
            Metric(name, value, round(step.at * 1000), step.step)
            for step in steps
            for name, value in step.values.items()
        ]
        left = len(metrics)
        for some in split(metrics, MAX_METRICS):
            left -= len(some)
            # A metric that is sent again after a lost response has the same time and step, so MLflow stores it once.
            tags = [] if left else [RunTag(STEP, str(steps[-1].step))]
            self._client.log_batch(self._id, metrics=some, tags=tags, synchronous=True)

    def close(self, state: JobState) -> None:
        if state in STATUSES:
            self._client.set_terminated(self._id, STATUSES[state])
        else:
            self._client.update_run(self._id, status="SCHEDULED")

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except MlflowException:  # Another process created it first.
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)


def split(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
