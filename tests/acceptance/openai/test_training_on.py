"""Tests jobs that start from another job's checkpoint or result, with OpenAI's own client."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from openai import OpenAI
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.acceptance.openai.conftest import preferences, upload
from tunewright import Client

NEGLIGIBLE_RATE = 1e-9
"""Multiplies the learning rate so that the weights stay the same."""


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_checkpoint_is_downloaded_and_a_job_starts_from_it(
    sdk: OpenAI, trained: Any, client: Client, wait: Callable[..., Any], tiny_model: Path, tmp_path: Path
) -> None:
    """The job names the checkpoint as its model. At a negligible learning rate, the new adapter equals the checkpoint,
    which plain PEFT loads."""
    last = sdk.fine_tuning.jobs.checkpoints.list(trained.id).data[0]
    start = client.download_checkpoint(trained.id, last.id, tmp_path / "checkpoint")
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tokens = torch.tensor([[5, 6, 7]])
    plain = base(tokens).logits
    assert not torch.equal(PeftModel.from_pretrained(base, start)(tokens).logits, plain)

    job = create_job_from(sdk, trained, last.fine_tuned_model_checkpoint)
    assert job.hyperparameters.learning_rate_multiplier == NEGLIGIBLE_RATE
    done = wait(job.id)
    assert (done.model, done.tunewright["spec"]["base_model"]) == (last.fine_tuned_model_checkpoint, "tiny")
    made = client.download_adapter(done.tunewright["adapter_id"], tmp_path / "made")
    assert distance(made, start) < 1e-6


def test_preferences_are_learned_by_a_fine_tuned_model(
    sdk: OpenAI, trained: Any, client: Client, wait: Callable[..., Any], tmp_path: Path
) -> None:
    """The reference is the model from which the job starts, so the margins start at zero."""
    given = {"beta": 0.2, "n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 50}
    job = sdk.fine_tuning.jobs.create(
        model=trained.fine_tuned_model,
        training_file=upload(sdk, preferences()),
        validation_file=upload(sdk, preferences(4)),
        method={"type": "dpo", "dpo": {"hyperparameters": given}},
        extra_body={"tunewright": {"method": "lora"}},
    )
    done = wait(job.id)
    assert (done.model, done.method.type) == (trained.fine_tuned_model, "dpo")
    assert done.method.dpo.hyperparameters.model_dump(exclude_none=True) == given
    spec = client.get_job(job.id).spec
    assert (spec["objective"], spec["dpo"], spec["init_from"]) == ("dpo", {"beta": 0.2}, trained.fine_tuned_model)
    assert spec["training"]["learning_rate"] == pytest.approx(50 * 2e-5)
    points = [event.data for event in sdk.fine_tuning.jobs.list_events(job.id) if event.type == "metrics"]
    margins = {point["step"]: point["reward_margin"] for point in points if "reward_margin" in point}
    assert margins[1] == pytest.approx(0, abs=1e-3)
    assert margins[6] > 0.01
    table = sdk.files.content(done.result_files[0]).text
    assert [int(row["step"]) for row in csv.DictReader(io.StringIO(table))] == [1, 2, 3, 4, 5, 6]
    adapters = (trained.tunewright["adapter_id"], done.tunewright["adapter_id"])
    start, made = (client.download_adapter(id, tmp_path / id) for id in adapters)
    assert 1e-5 < distance(made, start) < 6 * 50 * 2e-5 * 2, (
        "six steps change the weights within this limit; a new adapter would differ more"
    )

    assert {trained.fine_tuned_model, done.fine_tuned_model, "tiny"} <= {model.id for model in sdk.models.list()}
    assert sdk.models.delete(done.fine_tuned_model).deleted
    for request in (sdk.models.retrieve, sdk.models.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            request(done.fine_tuned_model)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert sdk.fine_tuning.jobs.retrieve(done.id).status == "succeeded", "the job stays"


def test_each_method_requires_rows_of_its_format(sdk: OpenAI, trained: Any) -> None:
    for method, rows, code in (
        ("dpo", trained.training_file, "not_preference_dataset"),
        ("supervised", upload(sdk, preferences(4)), "preference_dataset"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.fine_tuning.jobs.create(model="tiny", training_file=rows, method={"type": method})
        assert (caught.value.code, caught.value.param) == (code, "training_file")


def test_a_field_given_twice_with_different_values_is_refused(sdk: OpenAI, trained: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        create_job_from(sdk, trained, trained.fine_tuned_model, init_from="adp-" + "0" * 24)
    assert (caught.value.code, caught.value.param) == ("duplicate_field", "tunewright.init_from")


def create_job_from(sdk: OpenAI, trained: Any, model: str, **spec: Any) -> Any:
    """Create a job of one step on another job's rows, at a negligible learning rate."""
    return sdk.fine_tuning.jobs.create(
        model=model,
        training_file=trained.training_file,
        hyperparameters={"learning_rate_multiplier": NEGLIGIBLE_RATE},
        extra_body={"tunewright": {"method": "lora", "training": {"max_steps": 1}} | spec},
    )


def distance(one: Path, other: Path) -> float:
    """Return the largest difference between the weights of two adapters."""
    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)
