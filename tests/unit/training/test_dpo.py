"""Tests training on preferences: what it learns, its reference, and its resumes."""

import csv
import json
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.training.conftest import FP32, Recorder
from tests.unit.training.pairs import make_dpo, write_pairs
from worker.training.data.packing import PreferencePair, pack, pack_micro_batch
from worker.training.loop import dpo_reference
from worker.training.loop.dpo_reference import rows_of_steps
from worker.training.loop.training_loop import TrainingLoop, prepare, train
from worker.training.rows.sampler import BatchSampler
from worker.training.runtime.messages import (
    Finished,
    MetricsMessage,
    PhaseEntered,
    Planned,
    Stopped,
    TrainingMessage,
    TrainingRequest,
    WorkStarted,
)

MakeRequest = Callable[..., TrainingRequest]
REWARDS = {"reward_accuracy", "reward_margin", "chosen_reward", "rejected_reward"}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.jsonl")


def measured(channel: Recorder, name: str) -> list[float]:
    return [line.values[name] for line in channel.lines if isinstance(line, MetricsMessage) and name in line.values]


@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
def test_the_better_answers_win(method: str, make_request: MakeRequest, pairs: Path) -> None:
    """Start with equal rewards, and end with the better answer ahead in every pair, on validation rows too."""
    rate = 1e-3 if method == "full" else 0.01
    training = {"epochs": 4, "max_steps": None, "batch_size": 6, "learning_rate": rate}
    spec = make_dpo(method, validation_split=0.25, training=training)
    channel = Recorder()
    train(make_request(spec=spec, dataset_path=pairs), channel)
    assert measured(channel, "loss")[0] == pytest.approx(log(2), abs=1e-4)
    assert measured(channel, "loss")[-1] < 0.4
    assert measured(channel, "reward_accuracy")[-1] == 1
    assert measured(channel, "validation_reward_accuracy")[-1] > 0.6
    steps = [line.values.keys() for line in channel.lines if isinstance(line, MetricsMessage) and "loss" in line.values]
    assert all(keys >= REWARDS for keys in steps)
    last = channel.events("evaluated")[-1]
    assert last.validation_token_accuracy is None
    assert last.validation_reward_accuracy == measured(channel, "validation_reward_accuracy")[-1]
    assert last.validation_reward_margin == measured(channel, "validation_reward_margin")[-1] > 0


@pytest.mark.parametrize(
    ("method", "dtype", "adapter"),
    [("qlora", "float32", {}), ("lora", "bfloat16", {}), ("lora", "float16", {}), ("full", "float32", None),
     ("lora", "float32", {"init": "pissa"})],
)  # fmt: skip
def test_a_resumed_training_equals_the_uninterrupted_one_bit_for_bit(
    method: str, dtype: str, adapter: dict[str, Any] | None, make_request: MakeRequest, pairs: Path, tmp_path: Path
) -> None:
    """Stop in the middle of an epoch, while dropout draws from the random state."""
    training = {"max_steps": 6, "eval_every": 3, "learning_rate": 1e-3}
    parts = {"adapter": {"dropout": 0.1, "rank": 4} | adapter} if adapter is not None else {}
    spec = make_dpo(method, validation_split=0.2, training=training, **parts)
    fields: dict[str, Any] = {"spec": spec, "dataset_path": pairs}
    fields["resolved"] = FP32 | {"engine": {"compute_dtype": dtype, "micro_batch_tokens": 128}}
    whole, first, second = Recorder(), Recorder(stop_at=3), Recorder()
    train(make_request(**fields, work_dir=tmp_path / "whole"), whole)
    train(make_request(**fields, work_dir=tmp_path / "first"), first)
    (checkpoint,) = first.checkpoints()
    torch.manual_seed(12345)  # a different state than the first process had
    fields["resolved"] = next(line.resolved for line in first.lines if isinstance(line, Planned))
    train(make_request(**fields, work_dir=tmp_path / "second", checkpoint_path=checkpoint.path), second)

    assert first.events("reference_computed")[-1].num_done == 24
    assert second.events("reference_computed") == []
    assert second.warnings() == set()
    for name in ("loss", "reward_margin", "chosen_reward", "validation_loss", "validation_reward_accuracy"):
        assert measured(first, name) + measured(second, name) == measured(whole, name), name
    assert_same_results(tmp_path / "whole", tmp_path / "second")


def assert_same_results(*folders: Path) -> None:
    (path,) = (folders[0] / "result").glob("*model.safetensors")
    one, other = (load_file(folder / "result" / path.name) for folder in folders)
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)
    losses = [(folder / "reports/row_losses.csv").read_text() for folder in folders]
    assert losses[0] == losses[1]


class Impatient(Recorder):
    """Requests a stop after a number of the reference's micro-batches."""

    def __init__(self, after: int, why: Any):
        super().__init__()
        self._left, self._wish = after, why

    def send(self, message: TrainingMessage) -> None:
        super().send(message)
        if isinstance(message, WorkStarted) and "reference" in message.what:
            self._left -= 1
            if not self._left:
                self.stop_wish = self._wish


def test_an_interrupted_reference_continues(
    make_request: MakeRequest, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Save the known part before the first step. An interrupted group is computed again, to the same bits."""
    monkeypatch.setattr(dpo_reference, "GROUP", 5)
    fields: dict[str, Any] = {
        "spec": make_dpo("full", validation_split=0.2, training={"learning_rate": 1e-3}),
        "dataset_path": pairs,
        "resolved": FP32 | {"engine": {"compute_dtype": "float32", "micro_batch_tokens": 128}},
    }
    whole, first, second = Recorder(), Impatient(6, "drain"), Recorder()
    train(make_request(**fields, work_dir=tmp_path / "whole"), whole)
    train(make_request(**fields, work_dir=tmp_path / "first"), first)
    assert first.lines[-1] == Stopped(step=0)
    (checkpoint,) = first.checkpoints()
    assert checkpoint.step == 0
    known = load_file(checkpoint.path / "references.safetensors")["training"].isfinite().all(1)
    assert 0 < int(known.sum()) < len(known)
    fields["resolved"] = next(line.resolved for line in first.lines if isinstance(line, Planned))
    train(make_request(**fields, work_dir=tmp_path / "second", checkpoint_path=checkpoint.path), second)
    assert second.warnings() == set()
    assert second.losses() == whole.losses()
    assert_same_results(tmp_path / "whole", tmp_path / "second")
    batches = [
        sum("reference" in line.what for line in each.lines if isinstance(line, WorkStarted))
        for each in (whole, second)
    ]
    assert batches[1] < batches[0]


def test_a_cancel_stops_the_reference(make_request: MakeRequest, pairs: Path) -> None:
    channel = Impatient(1, "cancel")
    train(make_request(spec=make_dpo(), dataset_path=pairs), channel)
    assert channel.lines[-1] == Stopped(step=0)
    assert channel.checkpoints() == []
    assert sum("reference" in line.what for line in channel.lines if isinstance(line, WorkStarted)) == 1


def filled(request: TrainingRequest) -> TrainingLoop:
    """Return a loop whose reference is computed, before its first step."""
    run = prepare(request, Recorder())
    run._compute_reference()
    return run


@pytest.mark.parametrize(
    "adapter", [{}, {"init": "pissa"}, {"init": "olora"}, {"init": "gaussian"}, {"use_dora": True}]
)
def test_the_reference_is_the_base_for_every_start(
    adapter: dict[str, Any], make_request: MakeRequest, pairs: Path
) -> None:
    """Use dropout in the adapter, which the reference ignores. PiSSA and OLoRA take their adapter out of the base,
    so disabling it would give a different model."""
    request = make_request(spec=make_dpo(adapter={"rank": 4, "dropout": 0.5} | adapter), dataset_path=pairs)
    rows = filled(request).rows.training
    base = prepare(make_request(spec=make_dpo("full"), dataset_path=pairs), Recorder())
    with torch.no_grad():
        expected = [[-float(base.model.losses(pack_micro_batch([side]))[0].sum()) for side in pair.documents]
                    for pair in base.rows.training]  # fmt: skip
    torch.testing.assert_close(rows.references, torch.tensor(expected, dtype=torch.float64), rtol=1e-4, atol=1e-4)


def test_only_rows_of_steps_are_computed(make_request: MakeRequest, pairs: Path) -> None:
    run = filled(make_request(spec=make_dpo(training={"max_steps": 2, "batch_size": 4}), dataset_path=pairs))
    known = run.rows.training.references.isfinite().all(1).nonzero()[:, 0].tolist()
    assert known == sorted([*run.epochs.rows(1), *run.epochs.rows(2)])
    assert rows_of_steps(BatchSampler(10, 4, seed=0), 99) == list(range(10))


def test_micro_batches_change_nothing_and_never_split_a_pair(make_request: MakeRequest, pairs: Path) -> None:
    """Use micro-batches of single pairs (most exceed the budget), of some pairs, and of all pairs of a step."""
    found = {}
    for tokens in (8, 64, 4096):
        engine = {"compute_dtype": "float32", "micro_batch_tokens": tokens}
        channel = Recorder()
        request = make_request(spec=make_dpo(training={"learning_rate": 1e-3}), dataset_path=pairs)
        train(request.model_copy(update={"resolved": FP32 | {"engine": engine}}), channel)
        found[tokens] = measured(channel, "loss"), measured(channel, "grad_norm"), measured(channel, "reward_margin")
    for tokens in (8, 64):
        for one, other in zip(found[tokens], found[4096], strict=True):
            assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    rows = prepare(make_request(spec=make_dpo(), dataset_path=pairs), Recorder()).rows.training
    for batch in pack(rows, 64):
        whole = [document for row in batch.rows for document in row.documents]
        assert [id(each) for each in batch.examples] == [id(each) for each in whole]
        assert all(isinstance(row, PreferencePair) for row in batch.rows)
        assert sum(row.num_inputs for row in batch.rows) <= 64 or len(batch.rows) == 1


def test_reports_about_rows_and_result(make_request: MakeRequest, pairs: Path, tmp_path: Path) -> None:
    spec = make_dpo(validation_split=0.25, training={"epochs": 1, "max_steps": None}, dpo={"beta": 0.2})
    channel = Recorder()
    train(make_request(spec=spec, dataset_path=pairs), channel)
    assert isinstance(channel.lines[-1], Finished)
    (prepared,) = channel.events("dataset_prepared")
    assert (prepared.num_rows, prepared.num_validation_rows) == (18, 6)
    (advanced,) = channel.events("reference_computed")
    assert (advanced.num_done, advanced.num_rows) == (24, 24)
    phases = [line.phase for line in channel.lines if isinstance(line, PhaseEntered)]
    assert phases[:2] == ["preparing", "training"]
    rows = list(csv.DictReader((tmp_path / "work/reports/row_losses.csv").read_text().splitlines()))
    assert len(rows) == len({row["line"] for row in rows}) == 18
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert sum(losses) / 18 == pytest.approx(
        sum(loss * count for loss, count in zip(channel.losses(), (4, 4, 4, 4, 2), strict=True)) / 18, rel=1e-5
    )
    assert sum(int(row["num_labelled_tokens"]) for row in rows) == prepared.num_labelled_tokens
    manifest = json.loads((tmp_path / "work/result/manifest.json").read_text())
    assert manifest["validation"].keys() == {"step", "loss", "reward_accuracy", "reward_margin"}
    card = (tmp_path / "work/result/README.md").read_text()
    assert "- dpo\n" in card
    assert "| Objective | dpo, beta 0.2 |" in card
    assert "Validation reward accuracy" in card


def test_the_best_step_and_early_stopping_use_the_preference_loss(make_request: MakeRequest, pairs: Path) -> None:
    """Use a rate at which the validation pairs soon get worse."""
    training = {"max_steps": 40, "eval_every": 2, "learning_rate": 0.05, "early_stopping": {"patience": 2}}
    channel = Recorder()
    train(make_request(spec=make_dpo(validation_split=0.25, training=training), dataset_path=pairs), channel)
    losses = {event.step: event.validation_loss for event in channel.events("evaluated")}
    (stopped,) = channel.events("early_stopped")
    assert stopped.best_step == min(losses, key=losses.__getitem__)
    assert stopped.step < 40
