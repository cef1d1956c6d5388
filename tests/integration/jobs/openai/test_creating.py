"""Jobs created with OpenAI's client: resolved values, given values and refusals."""

import time
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from sqlalchemy import update

from app.db.session import Sessions, transaction
from app.db.tables import Dataset
from tests.integration.jobs.openai.conftest import as_json

AUTO = {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0}


def native(live_server: str, key: str, path: str) -> Any:
    return httpx2.get(f"{live_server}{path}", headers={"Authorization": f"Bearer {key}"}).json()


def test_auto_is_resolved_and_shown(
    create: Callable[..., Any], sdk: OpenAI, live_server: str, key: str, sessions: Sessions
) -> None:
    job = create()
    assert as_json(job.hyperparameters) == AUTO
    assert as_json(job.method) == {"type": "supervised", "supervised": {"hyperparameters": AUTO}}
    assert (job.status, job.error, job.finished_at, job.result_files) == ("queued", None, None, [])
    assert (job.fine_tuned_model, job.trained_tokens, job.metadata, job.integrations) == (None, None, None, None)
    assert abs(job.created_at - time.time()) < 60
    assert create().seed != job.seed
    assert sdk.fine_tuning.jobs.retrieve(job.id) == job
    spec = native(live_server, key, f"/jobs/{job.id}")["spec"]
    assert (spec["training"]["epochs"], spec["training"]["batch_size"], spec["training"]["learning_rate"]) == (
        3,
        8,
        "auto",
    )
    assert spec["training"]["seed"] == job.seed
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(size=20 * 2**20))
    assert as_json(create().hyperparameters) == AUTO | {"n_epochs": 2, "batch_size": 32}
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(size=2**30))
    assert as_json(create().hyperparameters) == AUTO | {"n_epochs": 1, "batch_size": 64}


def test_given_values_are_used(
    create: Callable[..., Any], live_server: str, key: str, make_dataset: Callable[..., str]
) -> None:
    given = {"n_epochs": 4, "batch_size": 2, "learning_rate_multiplier": 1.9}
    validation = make_dataset()
    job = create(
        method={"type": "supervised", "supervised": {"hyperparameters": given}},
        validation_file=validation,
        suffix="my-own",
        seed=7,
        metadata={"team": "support"},
        extra_body={"tunewright": {"method": "full", "priority": 3, "training": {"schedule": "linear"}}},
    )
    assert as_json(job.hyperparameters) == given
    assert (job.seed, job.metadata, job.validation_file) == (7, {"team": "support"}, validation)
    spec = native(live_server, key, f"/jobs/{job.id}")["spec"]
    assert (spec["method"], spec["priority"], spec["training"]["schedule"], spec["suffix"]) == (
        "full",
        3,
        "linear",
        "my-own",
    )
    assert spec["training"]["learning_rate"] == pytest.approx(1.9e-5)
    assert job.tunewright["spec"] == spec
    old = create(hyperparameters={"n_epochs": "auto", "batch_size": 5})
    assert as_json(old.hyperparameters) == AUTO | {"batch_size": 5}
    in_steps = create(extra_body={"tunewright": {"training": {"max_steps": 9}}})
    assert in_steps.hyperparameters.n_epochs is None


def test_an_unknown_field_is_reported_where_it_belongs(create: Callable[..., Any]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        create(extra_body={"learning_rate": 1, "n_epoch": 1, "tunewright": {}})
    body: Any = refused.value.body
    assert "did you mean 'tunewright.training.learning_rate'?" in body["message"]
    assert "did you mean 'hyperparameters.n_epochs'" in body["message"]
    with pytest.raises(openai.BadRequestError) as refused:
        create(extra_body={"tunewright": {"lora_r": 4}})
    assert "did you mean 'adapter.rank'?" in str(refused.value)


def supervised(**hyperparameters: Any) -> dict[str, Any]:
    return {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}


WANDB: Any = {"type": "wandb", "wandb": {"project": "cats"}}
IN_METHOD = "method.supervised.hyperparameters"


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": "gpt-none"}, "model", "model_not_found"),
        ({"model": "ft:tiny::0a1b2c3d"}, "model", "init_from_not_found"),
        ({"model": "ft:tiny::0a1b2c3d:ckpt-step-8"}, "model", "init_from_not_found"),
        ({"training_file": "file-none"}, "training_file", "string_pattern_mismatch"),
        ({"training_file": "file-" + "0" * 24}, "training_file", "dataset_not_found"),
        ({"validation_file": "file-" + "0" * 24}, "validation_file", "dataset_not_found"),
        ({"suffix": "two words"}, "suffix", "string_pattern_mismatch"),
        ({"seed": -1}, "seed", "greater_than_equal"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "string_too_long"),
        ({"method": supervised(n_epochs=0)}, f"{IN_METHOD}.n_epochs", "greater_than_equal"),
        ({"method": supervised(batch_size=257)}, f"{IN_METHOD}.batch_size", "less_than_equal"),
        ({"method": supervised(beta=0.1)}, f"{IN_METHOD}.beta", "unknown_field"),
        (
            {"hyperparameters": {"learning_rate_multiplier": 0}},
            "hyperparameters.learning_rate_multiplier",
            "greater_than",
        ),
        (
            {"method": supervised(learning_rate_multiplier=1e6)},
            f"{IN_METHOD}.learning_rate_multiplier",
            "less_than_equal",
        ),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": {}}}}, "method", "unsupported_method"),
        ({"extra_body": {"colour": "red"}}, "colour", "unknown_field"),
        ({"extra_body": {"tunewright": {"colour": "red"}}}, "tunewright.colour", "unknown_field"),
        (
            {"seed": 1, "extra_body": {"tunewright": {"training": {"seed": 2}}}},
            "tunewright.training.seed",
            "duplicate_field",
        ),
        ({"extra_body": {"tunewright": {"adapter": {"rank": 0}}}}, "tunewright.adapter.rank", "greater_than_equal"),
        ({"extra_body": {"tunewright": 3}}, "tunewright", "dict_type"),
        ({"integrations": [{"type": "tensorboard"}]}, "integrations[0].type", "unsupported_integration"),
        ({"integrations": [WANDB, {"type": "mlflow"}]}, "integrations[1].type", "unsupported_integration"),
        ({"integrations": [{"type": "wandb", "wandb": {}}]}, "integrations[0].wandb.project", "missing"),
        ({"integrations": [WANDB, WANDB]}, "integrations", "duplicate_integration"),
        ({"integrations": [WANDB] * 6}, "integrations", "too_long"),
        (
            {"extra_body": {"tunewright": {"integrations": [{"type": "mlflow", "mlflow": {}}]}}},
            "tunewright.integrations[0].mlflow.experiment",
            "missing",
        ),
    ],
)
def test_refusals_name_the_field(
    create: Callable[..., Any], fields: dict[str, Any], param: str, code: str, sdk: OpenAI
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        create(**fields)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type == "invalid_request_error"
    assert sdk.fine_tuning.jobs.list().data == []
    if code == "unsupported_method":
        assert '"supervised" and "dpo"' in caught.value.message


def test_unknown_jobs_and_unsupported_methods_are_refused(sdk: OpenAI) -> None:
    unknown = "ftjob-" + "0" * 24
    jobs = sdk.fine_tuning.jobs
    for ask in (jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events, jobs.checkpoints.list):
        with pytest.raises(openai.NotFoundError) as missing:
            ask(unknown)
        assert (missing.value.code, missing.value.param) == ("job_not_found", "fine_tuning_job_id")
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.fine_tuning.alpha.graders.validate(
            grader={"type": "string_check", "name": "x", "input": "a", "reference": "a", "operation": "eq"}
        )
    assert refused.value.code == "unsupported_method"
