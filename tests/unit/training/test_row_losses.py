"""Tests the loss of each row, as the steps of the last epoch computed it."""

import csv
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.unit.training.conftest import Recorder, make_spec
from worker.training.data.dataset import Examples
from worker.training.data.row_losses import UNKNOWN, write_row_losses
from worker.training.loop.training_loop import train
from worker.training.rows.sampler import BatchSampler
from worker.training.runtime.messages import Finished, TrainingRequest

MakeRequest = Callable[..., TrainingRequest]
Row = dict[str, float]
NUM_ROWS, STEPS_AN_EPOCH = 24, 6


def read(path: Path) -> list[Row]:
    with path.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def losses_of(channel: Recorder) -> list[Row]:
    last = channel.lines[-1]
    assert isinstance(last, Finished)
    assert last.reports is not None
    return read(last.reports / "row_losses.csv")


def trained(make_request: MakeRequest, **training: object) -> tuple[list[Row], Recorder]:
    channel = Recorder()
    train(make_request(spec=make_spec(training=training)), channel)
    return losses_of(channel), channel


def test_every_row_of_the_last_epoch_has_its_loss(make_request: MakeRequest) -> None:
    """Compare the mean, weighted by labelled tokens, over the rows of a step with the step's loss."""
    rows, channel = trained(make_request, epochs=2)
    assert sorted(row["line"] for row in rows) == list(range(1, NUM_ROWS + 1))
    assert [row["loss"] for row in rows] == sorted((row["loss"] for row in rows), reverse=True)
    by_step = defaultdict(list)
    for row in rows:
        by_step[row["step"]].append(row)
    assert sorted(by_step) == list(range(STEPS_AN_EPOCH + 1, 2 * STEPS_AN_EPOCH + 1))
    for step, some in by_step.items():
        num_labelled = sum(row["num_labelled_tokens"] for row in some)
        mean = sum(row["loss"] * row["num_labelled_tokens"] for row in some) / num_labelled
        assert mean == pytest.approx(channel.losses()[int(step) - 1], rel=1e-4)
        assert len({row["loss"] for row in some}) > 1


def test_a_training_that_ends_within_an_epoch_reports_each_rows_latest_loss(make_request: MakeRequest) -> None:
    rows, _ = trained(make_request, max_steps=8)
    epochs = BatchSampler(NUM_ROWS, 4, seed=0)
    latest = {row + 1: step for step in range(3, 9) for row in epochs.rows(step)}
    assert {row["line"]: row["step"] for row in rows} == latest
    assert len(rows) == len(latest) < NUM_ROWS


def test_a_training_of_less_than_an_epoch_reports_its_rows(make_request: MakeRequest) -> None:
    rows, _ = trained(make_request, max_steps=2)
    assert len(rows) == 8


def test_validation_rows_are_not_listed(make_request: MakeRequest) -> None:
    channel = Recorder()
    train(make_request(spec=make_spec(validation_split=0.25, training={"epochs": 1})), channel)
    assert len(losses_of(channel)) == 18


def test_rows_that_a_retry_with_other_batches_did_not_use_are_omitted(
    make_request: MakeRequest, tmp_path: Path
) -> None:
    """Put the second of three larger steps before the checkpoint, whose two small steps had other rows."""
    first, second = Recorder(stop_at=2), Recorder()
    train(make_request(work_dir=tmp_path / "first"), first)
    (checkpoint,) = first.checkpoints()
    retry = make_spec(training={"batch_size": 8, "max_steps": 4})
    train(make_request(spec=retry, work_dir=tmp_path / "second", checkpoint_path=checkpoint.path), second)
    epochs = BatchSampler(NUM_ROWS, 8, seed=0)
    expected = {row + 1: step for step in (3, 4) for row in epochs.rows(step)}
    assert {row["line"]: row["step"] for row in losses_of(second)} == expected
    assert not expected.keys() >= {row + 1 for row in epochs.rows(2)}


def test_equal_losses_are_ordered_by_line(tmp_path: Path) -> None:
    columns = {"lines": torch.tensor([5, 7, 9, 11]), "num_labelled": torch.tensor([2, 3, 4, 5])}
    rows, losses = Examples(columns, range(4)), torch.tensor([0.5, 2.0, 0.5, UNKNOWN])
    write_row_losses(tmp_path / "losses.csv", rows, losses, BatchSampler(4, 2, seed=0), last_step=2)
    assert [(row["line"], row["loss"], row["num_labelled_tokens"]) for row in read(tmp_path / "losses.csv")] == [
        (7, 2.0, 3),
        (5, 0.5, 2),
        (9, 0.5, 4),
    ]
