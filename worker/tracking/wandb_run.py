"""Writes a job's run at Weights & Biases. The run's id is the job's id, by which it is resumed."""

from collections.abc import Sequence
from typing import Final

import wandb

from app.domain.integration import Wandb
from app.domain.jobs.state import JobState
from worker.tracking.protocol import Open, Step

INIT_SECONDS: Final = 40
QUIET: Final = {"console": "off", "silent": True}
NOTHING_OF_THE_MACHINE: Final = {
    "disable_code": True,
    "disable_git": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
"""These facts would describe this process and not the training process."""


class WandbWriter:
    def __init__(self, asked: Open) -> None:
        assert isinstance(asked.integration, Wandb)
        wanted = asked.integration.wandb
        self._run = wandb.init(
            id=asked.job_id,
            resume="allow",
            project=wanted.project,
            entity=wanted.entity,
            name=wanted.name or asked.name,
            tags=wanted.tags,
            config=asked.config,
            settings=wandb.Settings(init_timeout=INIT_SECONDS, **QUIET, **NOTHING_OF_THE_MACHINE),
        )
        self.last_step = self._run.starting_step - 1 if self._run.resumed else None

    def log(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._run.log(step.values | {"_timestamp": step.at}, step=step.step)

    def close(self, state: JobState) -> None:
        if state not in (JobState.succeeded, JobState.failed, JobState.cancelled):
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if state is JobState.succeeded else 1)
