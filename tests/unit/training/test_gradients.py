"""Tests that a step's losses are read once, at its end, so that the host does not wait for a GPU until then."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from app.domain.jobs.state import FailureReason
from tests.unit.training.conftest import Recorder, make_spec
from worker.training.loop.gradients import accumulate
from worker.training.loop.objectives import Sft
from worker.training.loop.training_loop import TrainingLoop, prepare
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import TrainingRequest

MakeRequest = Callable[..., TrainingRequest]
FACTOR = 3000.0
"""Multiplies the head, so that losses exceed 88 and sums relative to the target overflow."""


class Watched(Sft):
    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    def summarize(self, *args: Any) -> Any:
        self._seen.append("summary")
        return super().summarize(*args)


def ready(make_request: MakeRequest, factor: float, **changes: Any) -> TrainingLoop:
    run = prepare(make_request(spec=make_spec("lora", **changes)), Recorder())
    with torch.no_grad():
        run.model.causal.get_output_embeddings().weight.mul_(factor)
    return run


def learn(run: TrainingLoop, seen: list[str] | None = None) -> tuple[dict[int, float], list[Tensor]]:
    """Return each row's loss, and the gradients."""
    seen = [] if seen is None else seen
    torch.manual_seed(7)
    rows = [run.rows.training[row] for row in range(8)]
    watch = lambda batch: seen.append("batch")  # noqa: E731
    found = accumulate(run.model, Watched(seen), run.scaler, 3, rows, watch)
    gradients = [parameter.grad.clone() for parameter in run.model.trainable.values() if parameter.grad is not None]
    for parameter in run.model.trainable.values():
        parameter.grad = None
    return found.by_line, gradients


def test_losses_are_read_after_the_last_micro_batch(make_request: MakeRequest) -> None:
    seen: list[str] = []
    learn(ready(make_request, 1.0), seen)
    assert seen.count("batch") == seen.count("summary") > 1
    assert seen == sorted(seen)


def test_a_step_that_overflows_is_repeated_with_checks(make_request: MakeRequest) -> None:
    """Repeat the step from the same random state, so that dropout draws the same."""
    run = ready(make_request, FACTOR, adapter={"dropout": 0.3})
    expected, gradients = learn(run)
    run.model.careful = False  # as on a GPU
    seen: list[str] = []
    found, again = learn(run, seen)
    assert max(found.values()) > 88
    assert found == expected
    assert all(one.equal(other) for one, other in zip(again, gradients, strict=True))
    assert run.model.careful
    assert seen.count("batch") == 2 * seen.count("summary")


def test_a_step_that_does_not_overflow_is_done_once(make_request: MakeRequest) -> None:
    run = ready(make_request, 1.0)
    expected, gradients = learn(run)
    run.model.careful = False
    seen: list[str] = []
    found, again = learn(run, seen)
    assert found == expected
    assert all(one.equal(other) for one, other in zip(again, gradients, strict=True))
    assert not run.model.careful
    assert seen.count("batch") == seen.count("summary")


@pytest.mark.parametrize("careful", [True, False])
def test_losses_that_are_not_finite_name_their_rows(careful: bool, make_request: MakeRequest) -> None:
    run = ready(make_request, float("nan"))
    run.model.careful = careful
    with pytest.raises(TrainingFailed, match="loss at step 3") as caught:
        learn(run)
    assert caught.value.reason is FailureReason.non_finite_loss
    assert all(str(run.rows.training[row].line) in caught.value.message for row in range(8))
