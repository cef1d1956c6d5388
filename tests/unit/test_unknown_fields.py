"""The message about a field that a body does not have."""

from typing import Any

import pytest
from pydantic import BaseModel

from app.domain.dataset_checks.preview import PreviewSpec
from app.domain.jobs.spec import JobSpec
from app.domain.suggestions.unknown_fields import NAMES_ELSEWHERE, fields_of, say_unknown
from app.jobs.schemas import RetryJob
from app.openai.jobs.spec import CreateJob


@pytest.mark.parametrize(
    ("location", "meant"),
    [
        (("lr",), "training.learning_rate"),
        (("training", "lr"), "learning_rate"),
        (("learning_rate",), "training.learning_rate"),
        (("training", "learnig_rate"), "learning_rate"),
        (("Base_Model",), "base_model"),
        (("base-model",), "base_model"),
        (("model",), "base_model"),
        (("training_file",), "dataset_id"),
        (("adapter", "r"), "rank"),
        (("lora_alpha",), "adapter.alpha"),
        (("num_train_epochs",), "training.epochs"),
        (("n_epochs",), "training.epochs"),
        (("training", "per_device_train_batch_size"), "batch_size"),
        (("adapter", "batch_size"), "training.batch_size"),
        (("traning",), "training"),
        (("integrations", 0, "is-wandb", "wandb", "projct"), "project"),
        (("patience",), "training.early_stopping.patience"),
    ],
)
def test_the_field_that_was_meant_is_named(location: tuple[Any, ...], meant: str) -> None:
    assert say_unknown(JobSpec, location) == f"Unknown field {location[-1]!r}; did you mean {meant!r}?"


@pytest.mark.parametrize("location", [("colour",), ("quantization", "bits"), ("training", ""), ("x" * 10_000,)])
def test_nothing_is_made_up(location: tuple[str, ...]) -> None:
    assert say_unknown(JobSpec, location) == f"Unknown field {location[-1]!r:.80}; remove it."


def test_a_name_of_several_fields_is_answered_with_all_of_them() -> None:
    assert say_unknown(JobSpec, ("type",)).endswith("did you mean 'quantization.type' or 'integrations.type'?")


def test_other_bodies_have_other_fields() -> None:
    assert say_unknown(PreviewSpec, ("max_length",)).endswith("did you mean 'max_seq_len'?")
    assert say_unknown(RetryJob, ("form",)).endswith("did you mean 'from'?")
    assert say_unknown(PreviewSpec, ("lr",)).endswith("remove it.")
    within: dict[str, type[BaseModel]] = {"tunewright": JobSpec}
    assert say_unknown(CreateJob, ("lora_r",), within).endswith("did you mean 'tunewright.adapter.rank'?")


def test_every_name_of_others_leads_to_a_field() -> None:
    fields = {field.rpartition(".")[2] for field in fields_of(JobSpec)}
    assert set(NAMES_ELSEWHERE.values()) <= fields
    assert not fields & NAMES_ELSEWHERE.keys()
