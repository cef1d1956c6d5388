"""Integrations that OpenAI's client sends and reads back."""

from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import OpenAI

from app.db.session import Sessions, transaction
from app.domain.hardware import WorkerHardware
from app.workers.service import WorkerService
from tests.integration.jobs.openai.conftest import as_json

WANDB: Any = {"type": "wandb", "wandb": {"project": "cats"}}


def test_integrations_are_returned_as_sent(create: Callable[..., Any], sdk: OpenAI) -> None:
    wandb = {"project": "cats", "name": "first", "entity": "team", "tags": ["a", "b"]}
    job = create(integrations=[{"type": "wandb", "wandb": wandb}])
    assert [as_json(each) for each in job.integrations] == [{"type": "wandb", "wandb": wandb}]
    assert sdk.fine_tuning.jobs.retrieve(job.id) == job
    board = {"type": "tensorboard"}
    job = create(extra_body={"tunewright": {"integrations": [board, WANDB]}})
    assert [each.wandb.project for each in job.integrations] == ["cats"]
    assert [each["type"] for each in job.tunewright["spec"]["integrations"]] == ["tensorboard", "wandb"]
    assert create(extra_body={"tunewright": {"integrations": [board]}}).integrations is None


def test_an_integration_that_no_worker_serves_is_refused(create: Callable[..., Any], sessions: Sessions) -> None:
    """While no worker is registered it is accepted, since a worker that serves it may still come."""
    machine = WorkerHardware("cpu-1-18", "cpu", 8.0)

    def register(*serves: str) -> None:
        with transaction(sessions) as session:
            state: Any = {"draining": False, "disk_full": False, "lease": 60}
            WorkerService(session).register(machine, {}, ["training"], serves, **state)

    assert create(integrations=[WANDB]).integrations
    register("mlflow")
    with pytest.raises(openai.BadRequestError) as caught:
        create(integrations=[WANDB])
    assert (caught.value.param, caught.value.code) == ("integrations[0].type", "integration_unavailable")
    for word in ("pip install 'tunewright[integrations]'", "WANDB_API_KEY"):
        assert word in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        create(extra_body={"tunewright": {"integrations": [{"type": "tensorboard"}]}})
    assert caught.value.param == "tunewright.integrations[0].type"
    register("mlflow", "wandb")
    assert create(integrations=[WANDB]).integrations
