"""Provides the failpoint cases with a restarting stack, a tiny model and a dataset, and checks each job's data."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.db.session import Sessions, transaction
from app.db.tables import Artifact, Attempt
from tests.acceptance.conftest import ROOT
from tests.chaos.restarting_stack import RestartingStack
from tunewright import Client, Job
from tunewright.errors import ConnectionFailed

STEPS = 12
FINAL = ("succeeded", "failed", "cancelled")


class Harness:
    """Holds the stack, and the actions and checks of the cases."""

    def __init__(self, stack: RestartingStack, client: Client, sessions: Sessions, rows: Path) -> None:
        self.stack, self.client, self.sessions, self.rows = stack, client, sessions, rows
        self.dataset_id = client.upload_dataset(rows).id

    def post(self, steps: int = STEPS, **fields: Any) -> Job:
        training = {"max_steps": steps, "batch_size": 2, "save_every": max(steps // 3, 1)}
        spec = {"base_model": "tiny", "dataset_id": self.dataset_id, "max_retries": 2, "training": training}
        return self.client.create_job(**spec | fields)

    def arm(self, *steps: str) -> None:
        self.stack.arm(*both(*steps))

    @cached_property
    def finished(self) -> Job:
        """Return an undisturbed job that has ended."""
        job = self.post()
        self.end(job.id)
        return self.client.get_job(job.id)

    @cached_property
    def many_rows(self) -> Path:
        """Return a dataset whose inspection takes longer than the interval between lease renewals."""
        path = self.stack.folder / "many.jsonl"
        with path.open("w") as file:
            for number in range(600_000):
                file.write(json.dumps({"prompt": f"{number} is", "completion": "a number. " * 20}) + "\n")
        return path

    def wait_for(self, id: str, *kinds: str, count: int = 1) -> None:
        self.stack.wait(
            lambda: sum(kind in kinds for kind in self.event_types(id)) >= count, f"{id} has events {kinds}"
        )

    def wait_until_fired(self, *names: str) -> None:
        self.stack.wait(lambda: self.stack.has_fired(*names), f"{names} have fired")

    @property
    def storage(self) -> Path:
        return self.stack.folder / "storage"

    def event_types(self, id: str) -> list[str]:
        return [event.type for event in self.client.events(id)]

    def end(self, id: str, *steps: str, state: str = "succeeded") -> Counter[str]:
        """Wait for the job's end and for the failpoints of `steps`, and check its data. Return its events' counts."""
        self.stack.wait(lambda: self.client.get_job(id).state in FINAL, f"{id} is final", seconds=300)
        self.wait_until_fired(*both(*steps))
        job = self.client.get_job(id)
        assert job.state == state, (job, self.stack.log_tails())
        return self._check_consistency(job)

    def _check_consistency(self, job: Job) -> Counter[str]:
        events = list(self.client.events(job.id))
        kinds = Counter(event.type for event in events)
        assert [event.raw["number"] for event in events] == list(range(1, len(events) + 1))
        assert events[-1].type == f"job_{job.state}"
        assert sum(kinds[f"job_{state}"] for state in FINAL) == 1
        outcomes = self.outcomes(job.id)
        assert len(outcomes) == job.attempt == kinds["job_claimed"]
        assert outcomes.count("lost") == kinds["attempt_lost"] - kinds["attempt_recovered"]
        assert outcomes.count("failed") == kinds["attempt_failed"]
        assert outcomes.count("released") == kinds["attempt_released"]
        self._check_result(job, outcomes)
        return kinds

    def outcomes(self, id: str) -> Sequence[str | None]:
        with transaction(self.sessions) as session:
            return session.scalars(select(Attempt.outcome).where(Attempt.job_id == id).order_by(Attempt.number)).all()

    def _check_result(self, job: Job, outcomes: Sequence[str | None]) -> None:
        """Check that a succeeded job has one set of files from its successful attempt, and a curve without gaps."""
        with transaction(self.sessions) as session:
            files = session.scalars(select(Artifact).where(Artifact.job_id == job.id)).all()
        if job.state != "succeeded":
            assert not files
            assert "succeeded" not in outcomes
            return
        assert outcomes.count("succeeded") == 1
        assert outcomes[-1] == "succeeded"
        assert {file.attempt for file in files} == {job.attempt}
        assert len({file.path for file in files}) == len(files)
        folder = self.stack.folder / "results" / f"{job.id}-{time.monotonic_ns()}"
        self.client.download_artifacts(job.id, folder)  # Compares each file with its digest.
        assert (folder / "adapter_model.safetensors").exists()
        steps = [point.step for point in self.client.metrics(job.id, names=["loss"])]
        assert steps == list(range(1, job.spec["training"]["max_steps"] + 1))

    def kill_during(self, failpoint: str, request: Callable[[], object]) -> None:
        """Kill the server during the request; the client gets no response."""
        self.stack.arm(failpoint)
        with pytest.raises(ConnectionFailed):
            request()
        assert self.stack.has_fired(failpoint)

    def jobs(self) -> set[str]:
        return {job.id for job in self.client.list_jobs()}

    def datasets(self) -> set[str]:
        return {dataset.id for dataset in self.client.list_datasets()}

    def run(self, *arguments: str, failpoint: str = "", **settings: str) -> int:
        """Run a Tunewright program that is killed at the failpoint; return its exit code."""
        asked = {"FAILPOINT": f"{failpoint}:kill"} if failpoint else {}
        environment = self.stack.environment() | asked | settings
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL).returncode


def both(*steps: str) -> list[str]:
    return [f"{when}_{step}" for step in steps for when in ("before", "after")]
