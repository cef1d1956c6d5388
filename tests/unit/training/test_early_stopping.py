"""Tests the choice of the best evaluation, early stopping, and the weights of the result."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.domain.jobs.state import FailureReason, JobPhase
from app.domain.jobs.training_config import EarlyStopping
from tests.unit.training.conftest import Recorder, make_spec
from worker.training.checkpoint.train_state import Evaluation, Evaluations
from worker.training.data.packing import pack
from worker.training.loop.training_loop import prepare, train
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import MetricsMessage, PhaseEntered, Stopped, TrainingMessage, TrainingRequest

MakeRequest = Callable[..., TrainingRequest]
STEADY = {"learning_rate": 0.02, "schedule": "constant", "warmup_ratio": 0.0, "eval_every": 3}
"""Sets a rate that does not depend on the number of steps."""
BEST, END = 9, 15
"""Are the step with the lowest validation loss, and the step after two evaluations that are not better."""


@pytest.fixture
def unlike_rows(tmp_path: Path) -> dict[str, Any]:
    """Return validation rows that the training rows teach at first but not later."""
    path = tmp_path / "validation.jsonl"
    words = ["red", "green", "late"]
    rows = [{"prompt": f"Ticket {number}: ", "completion": words[number % 3]} for number in range(9)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"validation_path": path, "validation_sha256": "1" * 64}


def spec_of(**training: Any) -> Any:
    return make_spec(validation_dataset_id="file-" + "1" * 24, training=STEADY | training)


def judged(losses: list[float], min_delta: float = 0.0) -> Evaluations:
    found = Evaluations()
    for step, loss in enumerate(losses, start=1):
        found.add(Evaluation(step, loss, 0.5), min_delta)
    return found


@pytest.mark.parametrize(
    ("losses", "min_delta", "best_step", "num_without_improvement"),
    [
        ([3.0], 0.0, 1, 0),
        ([3.0, 2.0, 1.0], 0.0, 3, 0),
        ([3.0, 2.0, 2.0, 2.5], 0.0, 2, 2),
        ([3.0, 2.9, 2.8], 0.5, 3, 2),  # still the best
        ([3.0, 2.8, 2.6, 2.4], 0.5, 4, 0),  # slow improvements add up
        ([3.0, 2.5, 2.0], 0.5, 3, 0),  # exactly min_delta is not enough, twice as much is
        ([3.0, 4.0, 2.0, 4.0], 0.0, 3, 1),
    ],
)
def test_the_best_and_the_count(
    losses: list[float], min_delta: float, best_step: int, num_without_improvement: int
) -> None:
    found = judged(losses, min_delta)
    assert found.best is not None
    assert found.best.step == best_step
    assert found.num_without_improvement == num_without_improvement
    assert found.last == Evaluation(len(losses), losses[-1], 0.5)
    assert found.should_stop(EarlyStopping(patience=num_without_improvement + 1)) is False
    assert found.should_stop(EarlyStopping(patience=max(num_without_improvement, 1))) is (num_without_improvement > 0)
    assert found.should_stop(None) is False
    assert Evaluations.of_json(json.loads(json.dumps(found.to_json()))) == found


def test_training_stops_early_with_the_best_step_as_its_result(
    make_request: MakeRequest, unlike_rows: dict[str, Any], tmp_path: Path
) -> None:
    stopped = Recorder()
    spec = spec_of(max_steps=40, early_stopping={"patience": 2})
    train(make_request(spec=spec, work_dir=tmp_path / "stopped", **unlike_rows), stopped)
    (event,) = stopped.events("early_stopped")
    losses = {found.step: found.validation_loss for found in stopped.events("evaluated")}
    assert list(losses) == [3, 6, 9, 12, 15]
    assert (event.step, event.best_step, event.best_validation_loss) == (END, BEST, min(losses.values()))
    manifest = json.loads((tmp_path / "stopped/result/manifest.json").read_text())
    assert (manifest["num_steps"], manifest["result_step"]) == (END, BEST)
    assert (manifest["validation"]["step"], manifest["validation"]["loss"]) == (BEST, losses[BEST])

    shorter = Recorder()
    train(make_request(spec=spec_of(max_steps=BEST), work_dir=tmp_path / "shorter", **unlike_rows), shorter)
    assert_same_adapter(tmp_path / "stopped", tmp_path / "shorter")


def test_the_last_step_is_the_result_if_requested(
    make_request: MakeRequest, unlike_rows: dict[str, Any], tmp_path: Path
) -> None:
    run = prepare(make_request(spec=spec_of(max_steps=12, result="last"), **unlike_rows), Recorder())
    run.loop()
    assert run.state.best_weights is None
    last = {name: parameter.detach().clone() for name, parameter in run.model.trainable.items()}
    run.publish()
    assert all(parameter.equal(last[name]) for name, parameter in run.model.trainable.items())
    manifest = json.loads((run.request.work_dir / "result/manifest.json").read_text())
    assert (manifest["result_step"], manifest["validation"]["step"]) == (12, 12)
    assert run.state.evaluations.best.step == BEST


def test_early_stopping_resumes_bit_for_bit_from_a_checkpoint(
    make_request: MakeRequest, unlike_rows: dict[str, Any], tmp_path: Path
) -> None:
    """Stop between the best evaluation and the last one, so that the counter and the best weights come from the
    checkpoint."""
    spec = spec_of(max_steps=40, early_stopping={"patience": 2})
    whole = Recorder()
    train(make_request(spec=spec, work_dir=tmp_path / "whole", **unlike_rows), whole)
    first = Recorder(stop_at=13)
    train(make_request(spec=spec, work_dir=tmp_path / "first", **unlike_rows), first)
    second = Recorder()
    checkpoint = first.checkpoints()[0].path
    assert (checkpoint / "best.safetensors").exists()
    train(make_request(spec=spec, work_dir=tmp_path / "second", checkpoint_path=checkpoint, **unlike_rows), second)

    assert first.losses() + second.losses() == whole.losses()
    assert second.events("early_stopped") == whole.events("early_stopped")
    assert_same_adapter(tmp_path / "whole", tmp_path / "second")


class StopsWithinEvaluation(Recorder):
    """Requests a drain while step 9 is evaluated."""

    def send(self, message: TrainingMessage) -> None:
        super().send(message)
        steps = [line.step for line in self.lines if isinstance(line, MetricsMessage)]
        if isinstance(message, PhaseEntered) and message.phase is JobPhase.evaluating and steps[-1] == BEST:
            self.stop_wish = "drain"


def test_a_drain_in_an_evaluation_repeats_it_after_the_resume(
    make_request: MakeRequest, unlike_rows: dict[str, Any], tmp_path: Path
) -> None:
    spec = spec_of(max_steps=40, early_stopping={"patience": 2})
    first = StopsWithinEvaluation()
    train(make_request(spec=spec, work_dir=tmp_path / "first", **unlike_rows), first)
    assert first.lines[-1] == Stopped(step=BEST)
    assert [event.step for event in first.events("evaluated")] == [3, 6]
    second = Recorder()
    checkpoint = first.checkpoints()[0].path
    train(make_request(spec=spec, work_dir=tmp_path / "second", checkpoint_path=checkpoint, **unlike_rows), second)
    assert [event.step for event in second.events("evaluated")] == [9, 12, 15]
    assert second.events("early_stopped")[0].best_step == BEST


def test_a_drain_in_the_last_evaluation_loses_no_step(
    make_request: MakeRequest, unlike_rows: dict[str, Any], tmp_path: Path
) -> None:
    first = StopsWithinEvaluation()
    spec = spec_of(max_steps=BEST)
    train(make_request(spec=spec, work_dir=tmp_path / "first", **unlike_rows), first)
    second = Recorder()
    checkpoint = first.checkpoints()[0].path
    train(make_request(spec=spec, work_dir=tmp_path / "second", checkpoint_path=checkpoint, **unlike_rows), second)
    assert second.losses() == []
    assert [event.step for event in second.events("evaluated")] == [BEST]
    assert (tmp_path / "second/result/manifest.json").exists()


def test_a_validation_loss_that_is_not_finite_names_the_step_and_the_rows(
    make_request: MakeRequest, unlike_rows: dict[str, Any]
) -> None:
    run = prepare(make_request(spec=spec_of(max_steps=6), **unlike_rows), Recorder())
    with torch.no_grad():
        next(iter(run.model.trainable.values())).fill_(float("nan"))
    first = pack(run.rows.validation, run.model.micro_batch_tokens)[0]
    rows = ", ".join(map(str, sorted(example.line for example in first.examples)))
    with pytest.raises(TrainingFailed, match=rf"validation loss at step 0 .*rows {rows}\)") as caught:
        run._evaluate()
    assert caught.value.reason is FailureReason.non_finite_loss


def assert_same_adapter(*work_dirs: Path) -> None:
    one, other = (load_file(folder / "result/adapter_model.safetensors") for folder in work_dirs)
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)
