"""Tests the dry run before the first step: it changes nothing, and problems appear before step 1."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from app.domain.jobs.state import JobPhase
from tests.unit.training.conftest import FP32, Recorder, make_spec
from worker.training.data.dataset import Examples
from worker.training.data.packing import MicroBatch, pack
from worker.training.loop.dry_run import find_largest_micro_batch, run_dry_run
from worker.training.loop.training_loop import TrainingLoop, prepare, train
from worker.training.runtime.messages import (
    EventMessage,
    Finished,
    MetricsMessage,
    PhaseEntered,
    Planned,
    TrainingMessage,
    TrainingRequest,
)

MakeRequest = Callable[..., TrainingRequest]


def state_of(run: TrainingLoop) -> dict[str, Any]:
    held = {
        "random": torch.get_rng_state(),
        **{f"weight {name}": value.clone() for name, value in run.model.causal.state_dict().items()},
    }
    for name, parameter in run.model.trainable.items():
        for key, value in run.optimizer.state[parameter].items():
            held[f"optimizer {name} {key}"] = value.clone() if isinstance(value, torch.Tensor) else value
    return held


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        same = found[name].equal(value) if isinstance(value, torch.Tensor) else found[name] == value
        assert same, name


@pytest.mark.parametrize("num_steps", [0, 2])
@pytest.mark.parametrize("method", ["qlora", "full"])
def test_it_changes_nothing(method: str, num_steps: int, make_request: MakeRequest) -> None:
    """Check that nothing changes, although dropout draws from the random state."""
    adapter = None if method == "full" else {"dropout": 0.2}
    run = prepare(make_request(spec=make_spec(method, adapter=adapter, validation_split=0.25)), Recorder())
    for _ in range(num_steps):
        run._step()
    before, folders = state_of(run), sorted(run.request.work_dir.iterdir())
    run._run_dry_run()
    assert_equal(state_of(run), before)
    assert all(parameter.grad is None for parameter in run.model.causal.parameters())
    assert run.model.causal.training
    assert run.state.position.step == num_steps
    assert sorted(run.request.work_dir.iterdir()) == folders, "the scratch checkpoint must be removed"


def test_the_dry_run_is_reported_between_the_plan_and_the_first_step(make_request: MakeRequest) -> None:
    channel = Recorder()
    train(make_request(spec=make_spec(validation_split=0.25)), channel)
    (dry_run_passed,) = channel.events("dry_run_passed")
    assert dry_run_passed.num_tokens > 0
    assert dry_run_passed.peak_memory_bytes > 10**7
    assert dry_run_passed.seconds > 0

    def place(is_it: Callable[[TrainingMessage], bool]) -> int:
        return next(number for number, line in enumerate(channel.lines) if is_it(line))

    assert (
        place(lambda line: isinstance(line, Planned))
        < place(lambda line: isinstance(line, EventMessage) and line.event.type == "dry_run_passed")
        < place(lambda line: isinstance(line, PhaseEntered) and line.phase is JobPhase.training)
        < place(lambda line: isinstance(line, MetricsMessage))
    )


def test_a_resumed_training_has_a_dry_run_too(make_request: MakeRequest, tmp_path: Path) -> None:
    first = Recorder(stop_at=2)
    train(make_request(work_dir=tmp_path / "first"), first)
    second = Recorder()
    train(make_request(checkpoint_path=first.checkpoints()[0].path), second)
    assert len(second.events("dry_run_passed")) == 1
    assert isinstance(second.lines[-1], Finished)


@pytest.mark.parametrize("part", ["training", "validation"])
def test_a_row_that_breaks_the_model_fails_before_the_first_step(
    part: str, make_request: MakeRequest, tmp_path: Path
) -> None:
    """Use a row longer than GPT-2's 512 positions. Without the dry run it would fail in some step, or in an
    evaluation."""
    paths = {}
    for name in ("training", "validation"):
        rows = [{"prompt": f"Ticket {number}: ", "completion": "red"} for number in range(24)]
        if name == part:
            rows[7] |= {"prompt": "the printer " * 300}
        paths[name] = tmp_path / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    channel = Recorder()
    request = make_request(
        family="gpt2",
        spec=make_spec(training={"max_seq_len": 2048}),
        dataset_path=paths["training"],
        validation_path=paths["validation"],
        validation_sha256="1" * 64,
    )
    with pytest.raises(IndexError, match="out of range"):
        train(request, channel)
    assert channel.losses() == []
    assert channel.events("dry_run_passed") == []


def test_a_full_disk_is_reported_by_the_dry_run(make_request: MakeRequest) -> None:
    channel = Recorder()
    request = make_request()
    (request.work_dir / "dry_run").write_text("a file where the folder would be")
    train(request, channel)
    (warning,) = channel.events("warning_issued")
    assert warning.code == "checkpoint_failed"
    assert len(channel.events("dry_run_passed")) == 1
    assert isinstance(channel.lines[-1], Finished)


def rows_of(lengths: list[int]) -> Examples:
    """Return rows with these numbers of inputs."""
    tokens = [length + 1 for length in lengths]
    return Examples(
        {
            "ids": torch.zeros(sum(tokens), dtype=torch.int32),
            "labelled": torch.ones(sum(tokens)) > 0,
            "starts": torch.tensor([0, *tokens]).cumsum(0),
            "lines": torch.arange(len(tokens)),
            "num_inputs": torch.tensor(lengths),
        },
        range(len(tokens)),
    )


def inputs_of(batch: MicroBatch) -> list[int]:
    """Return the lengths without the padding of the last document."""
    return [example.num_inputs for example in batch.examples]


def test_the_largest_micro_batch_has_the_longest_row_and_the_next_that_fit() -> None:
    rows = rows_of([5, 30, 12, 40, 8, 3])
    assert inputs_of(find_largest_micro_batch(rows, 3, 64)) == [40, 12, 8]
    assert inputs_of(find_largest_micro_batch(rows, 2, 64)) == [40, 12]
    assert inputs_of(find_largest_micro_batch(rows, 4, 10)) == [40], "a row over the budget must be alone"
    assert inputs_of(find_largest_micro_batch(rows, 6, 1000)) == [40, 30, 12, 8, 5, 3]


def test_no_step_packs_a_larger_one() -> None:
    draw = torch.Generator().manual_seed(0)
    rows = rows_of(torch.randint(1, 90, (64,), generator=draw).tolist())
    bound = sum(inputs_of(find_largest_micro_batch(rows, 8, 128)))
    packed = [batch for start in range(0, 64, 8) for batch in pack(rows[start : start + 8], 128)]
    assert bound >= 0.95 * max(sum(inputs_of(batch)) for batch in packed)


def test_it_follows_the_budget_of_the_plan(make_request: MakeRequest) -> None:
    run = prepare(make_request(resolved=FP32), Recorder())
    batch = run_dry_run(run.model, run.rows.training, run.rows.validation, run.training.batch_size)
    assert sum(inputs_of(batch)) <= FP32["engine"]["micro_batch_tokens"]
    assert run.rows.training.longest in inputs_of(batch)
