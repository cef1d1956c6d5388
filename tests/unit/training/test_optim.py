"""Tests the learning rate, step by step."""

import pytest
import torch
from torch import nn

from app.domain.jobs.training_config import TrainingSpec
from worker.training.loop.optimizer import learning_rate, make_optimizer


def training(**fields: object) -> TrainingSpec:
    return TrainingSpec.model_validate({"max_steps": 10, "learning_rate": 1.0, "warmup_ratio": 0.0} | fields)


def rates(total: int, asked: TrainingSpec) -> list[float]:
    return [learning_rate(step, total, asked) for step in range(1, total + 1)]


def test_constant() -> None:
    assert rates(4, training(schedule="constant")) == [1.0] * 4


def test_linear_with_warm_up() -> None:
    asked = training(schedule="linear", warmup_ratio=0.3)
    assert rates(10, asked) == pytest.approx([0.25, 0.5, 0.75, *(1 - done / 7 for done in range(7))])


def test_cosine_falls_by_half_in_the_middle_and_never_reaches_zero() -> None:
    found = rates(10, training(schedule="cosine"))
    assert found[0] == 1.0
    assert found[5] == pytest.approx(0.5)
    assert found == sorted(found, reverse=True)
    assert found[-1] > 0


def test_one_step_has_a_rate() -> None:
    assert rates(1, training(schedule="cosine", warmup_ratio=0.03))[0] > 0


def test_only_matrices_decay() -> None:
    layer = nn.Linear(3, 4)
    optimizer = make_optimizer(dict(layer.named_parameters()), training(weight_decay=0.1))
    decay = {group["weight_decay"]: group["params"] for group in optimizer.param_groups}
    assert decay[0.1] == [layer.weight]
    assert decay[0.0] == [layer.bias]
    assert isinstance(optimizer, torch.optim.AdamW)
