from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from app.domain.jobs.spec import JobSpec
from app.domain.jobs.training_config import AdapterSpec, DpoSpec

DATASET = "file-" + "0" * 24
ADAPTER = "adp-" + "0" * 24


def spec(**changes: Any) -> JobSpec:
    body = {"base_model": "tiny", "dataset_id": DATASET, "training": {"max_steps": 10}}
    return JobSpec.model_validate(body | changes)


def refusals(**changes: Any) -> set[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        spec(**changes)
    return {("/".join(map(str, error["loc"])), error["type"]) for error in caught.value.errors()}


def parts(model: type[BaseModel]) -> list[type[BaseModel]]:
    return [model, *(part for child in model.__subclasses__() for part in parts(child))]


def test_every_default_is_in_sight() -> None:
    filled = spec().decided(model_max_seq_len=1024).model_dump(mode="json")
    assert filled == {
        "base_model": "tiny",
        "dataset_id": DATASET,
        "validation_dataset_id": None,
        "validation_split": None,
        "on_bad_rows": {"action": "fail", "max_share": None},
        "method": "qlora",
        "objective": "sft",
        "dpo": None,
        "resources": {"device": "auto", "gpu": [], "labels": {}, "min_memory_gb": 0.0},
        "max_retries": 0,
        "max_duration_seconds": None,
        "quantization": {"type": "nf4", "double_quant": True, "compute_dtype": "auto"},
        "adapter": {
            "rank": 16,
            "alpha": 32.0,
            "dropout": 0.0,
            "target_modules": "all-linear",
            "use_rslora": False,
            "use_dora": False,
            "init": "default",
            "lora_plus_ratio": 1.0,
        },
        "init_from": None,
        "training": {
            "epochs": None,
            "max_steps": 10,
            "batch_size": 8,
            "optimizer": "adamw",
            "learning_rate": 2e-4,
            "schedule": "cosine",
            "warmup_ratio": 0.03,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "max_seq_len": 1024,
            "seed": 0,
            "train_on": "auto",
            "reasoning": "train",
            "eval_every": None,
            "save_every": "auto",
            "save_every_seconds": 600,
            "keep_checkpoints": 3,
            "on_inexact_resume": "continue",
            "early_stopping": None,
            "result": "best",
            "gradient_checkpointing": "auto",
            "memory": "auto",
        },
        "name": None,
        "suffix": None,
        "metadata": {},
        "priority": 0,
        "integrations": [],
    }


def test_a_filled_spec_is_a_spec() -> None:
    for method in ("qlora", "lora", "full"):
        filled = spec(method=method).decided(4096)
        assert JobSpec.model_validate(filled.model_dump(mode="json")) == filled
        assert filled.decided(4096) == filled


def test_filling_decides_nothing() -> None:
    sent = spec(method="qlora", training={"epochs": 1}).filled()
    assert (sent.training.learning_rate, sent.training.max_seq_len) == ("auto", "auto")
    assert sent.adapter
    assert sent.quantization
    assert sent.quantization.compute_dtype == "auto"
    assert sent.filled() == sent


def test_filling_obeys_the_user_and_the_method() -> None:
    full = spec(method="full").decided(4096)
    assert (full.adapter, full.quantization) == (None, None)
    assert (full.training.learning_rate, full.training.max_seq_len) == (1e-5, 2048)
    lora = spec(
        method="lora", adapter={"rank": 4}, training={"epochs": 1, "learning_rate": 0.5, "max_seq_len": 64}
    ).decided(4096)
    assert lora.quantization is None
    assert lora.adapter
    assert lora.adapter.rank == 4
    assert (lora.training.learning_rate, lora.training.max_seq_len) == (0.5, 64)


def test_unknown_fields_are_refused_wherever_they_are() -> None:
    body = {
        "epochs": 3,
        "resources": {"gpus": 1},
        "quantization": {"bits": 4},
        "adapter": {"r": 8},
        "training": {"max_steps": 1, "lr": 1},
    }
    assert refusals(**body) == {
        (place, "extra_forbidden")
        for place in ("epochs", "resources/gpus", "quantization/bits", "adapter/r", "training/lr")
    }


@pytest.mark.parametrize("given", [{}, {"epochs": 1, "max_steps": 1}])
def test_exactly_one_of_epochs_and_max_steps(given: dict[str, int]) -> None:
    assert refusals(training=given) == {("training", "epochs_or_max_steps")}


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("adapter", "rank", 0),
        ("adapter", "rank", -1),
        ("adapter", "alpha", 0),
        ("adapter", "dropout", 1),
        ("adapter", "target_modules", []),
        ("adapter", "target_modules", ["a b"]),
        ("adapter", "init", "loftq"),
        ("adapter", "lora_plus_ratio", 0.5),
        ("adapter", "lora_plus_ratio", 1001),
        ("training", "epochs", 0),
        ("training", "epochs", float("nan")),
        ("training", "epochs", float("inf")),
        ("training", "max_steps", 0),
        ("training", "batch_size", 0),
        ("training", "learning_rate", 0),
        ("training", "learning_rate", "fast"),
        ("training", "warmup_ratio", 1),
        ("training", "weight_decay", -0.1),
        ("training", "max_seq_len", 4),
        ("training", "seed", -1),
        ("training", "save_every", 0),
        ("training", "eval_every", 0),
        ("training", "keep_checkpoints", 0),
        ("training", "keep_checkpoints", 101),
        ("training", "early_stopping", {"patience": 0}),
        ("training", "early_stopping", {"patience": 1, "min_delta": -1}),
        ("training", "result", "first"),
        ("training", "schedule", "magic"),
        ("training", "optimizer", "sgd"),
        ("training", "train_on", "prompt"),
        ("quantization", "type", "fp4"),
        ("resources", "device", "tpu"),
        ("resources", "min_memory_gb", -1),
    ],
)
def test_values_out_of_bounds(part: str, field: str, value: object) -> None:
    base = {"max_steps": 1} if part == "training" and field != "epochs" else {}
    found = refusals(**{part: base | {field: value}})
    assert {place.split("/")[1] for place, _ in found if "/" in place} == {field}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"method": "lora", "quantization": {}}, "quantization_without_qlora"),
        ({"method": "full", "quantization": {}}, "quantization_without_qlora"),
        ({"method": "full", "adapter": {}}, "adapter_with_full"),
        ({"validation_dataset_id": DATASET, "validation_split": 0.1}, "multiple_validation_sources"),
        ({"training": {"epochs": 1, "early_stopping": {"patience": 2}}}, "early_stopping_without_validation"),
        ({"method": "qlora", "adapter": {"init": "pissa"}}, "init_without_lora"),
        ({"method": "qlora", "adapter": {"init": "olora"}}, "init_without_lora"),
        ({"method": "full", "init_from": ADAPTER}, "init_from_with_full"),
        ({"init_from": ADAPTER, "adapter": {"init": "eva"}}, "init_with_init_from"),
    ],
)
def test_parts_must_fit_together(changes: dict[str, Any], code: str) -> None:
    assert refusals(**changes) == {("", code)}


@pytest.mark.parametrize(
    ("given", "where", "code"),
    [
        ({"action": "skip"}, "on_bad_rows", "max_share_required"),
        ({"max_share": 0.1}, "on_bad_rows", "max_share_without_skip"),
        ({"action": "skip", "max_share": 1}, "on_bad_rows/max_share", "less_than"),
        ({"action": "skip", "max_share": 0}, "on_bad_rows/max_share", "greater_than"),
        ({"action": "drop", "max_share": 0.1}, "on_bad_rows/action", "literal_error"),
        ("skip", "on_bad_rows", "model_type"),
    ],
)
def test_skipping_bad_rows_needs_a_share(given: object, where: str, code: str) -> None:
    assert refusals(on_bad_rows=given) == {(where, code)}


def test_an_unknown_init_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="'default', 'gaussian', 'eva', 'pissa' or 'olora'"):
        spec(adapter={"init": "loftq"})


@pytest.mark.parametrize(("use_rslora", "alpha"), [(False, 32.0), (True, 64.0)])
@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_init_that_rewrites_the_base_is_saved_with_twice_the_rank_and_the_same_scaling(
    init: str, use_rslora: bool, alpha: float
) -> None:
    adapter = AdapterSpec.model_validate(
        {"rank": 4, "alpha": 16, "use_rslora": use_rslora, "init": init, "dropout": 0.1}
    )
    saved = adapter.as_saved()
    assert saved == AdapterSpec(rank=8, alpha=alpha, dropout=0.1)
    assert AdapterSpec(init="eva", use_rslora=True).as_saved() == AdapterSpec(use_rslora=True, alpha=32)


def test_alpha_is_twice_the_rank_unless_it_is_given() -> None:
    sent = spec(adapter={"rank": 4}).filled()
    assert sent.adapter
    assert sent.adapter.alpha == "auto"
    for given, alpha in (({"rank": 4}, 8.0), ({"rank": 4, "alpha": "auto"}, 8.0), ({"rank": 4, "alpha": 32}, 32.0)):
        decided = spec(adapter=given).decided(1024)
        assert decided.adapter
        assert (decided.adapter.rank, decided.adapter.alpha) == (4, alpha)
    rewriting = AdapterSpec(rank=4, init="pissa").as_saved()
    assert (rewriting.rank, rewriting.alpha) == (8, 16.0), "the same scaling"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_model", ""),
        ("dataset_id", "../../etc/passwd"),
        ("dataset_id", "ftjob-" + "0" * 24),
        ("init_from", "ftjob-" + "0" * 24),
        ("validation_split", 0),
        ("validation_split", 1),
        ("method", "dpo"),
        ("objective", "grpo"),
        ("max_retries", 11),
        ("name", ""),
        ("suffix", "a/b"),
        ("suffix", "a\n"),
        ("metadata", {"": "x"}),
        ("metadata", {"k": "v" * 513}),
        ("metadata", {str(number): "" for number in range(17)}),
        ("priority", 101),
    ],
)
def test_fields_out_of_bounds(field: str, value: object) -> None:
    assert {place.split("/")[0] for place, _ in refusals(**{field: value})} == {field}


@pytest.mark.parametrize(("method", "rate"), [("qlora", 2e-5), ("lora", 2e-5), ("full", 1e-6)])
def test_dpo_is_filled_in(method: str, rate: float) -> None:
    filled = spec(objective="dpo", method=method).decided(1024)
    assert (filled.dpo, filled.training.learning_rate) == (DpoSpec(beta=0.1), rate)
    asked = {"max_steps": 1, "learning_rate": 3e-4}
    given = spec(objective="dpo", dpo={"beta": 2}, method=method, training=asked).decided(1024)
    assert (given.dpo, given.training.learning_rate) == (DpoSpec(beta=2), 3e-4)


def test_what_belongs_to_dpo() -> None:
    assert refusals(dpo={"beta": 0.1}) == {("", "dpo_without_objective")}
    for train_on in ("assistant", "all"):
        training = {"max_steps": 1, "train_on": train_on}
        assert refusals(objective="dpo", training=training) == {("", "train_on_with_dpo")}
    for beta in (0, -1, 2.01, float("nan")):
        assert {place for place, _ in refusals(objective="dpo", dpo={"beta": beta})} == {"dpo/beta"}


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        spec().training.batch_size = 1
