"""Tests a step's rows and their layout."""

import time
from itertools import chain

import torch
from hypothesis import given
from hypothesis import strategies as st

from worker.training.data.packing import Example, pack, pack_micro_batch
from worker.training.rows.sampler import BatchSampler, best_fit, draw_validation_rows
from worker.training.runtime.alignment import ALIGNED


def example(length: int, first_label: int, line: int = 1) -> Example:
    ids = torch.arange(100 * line, 100 * line + length, dtype=torch.int32)
    return Example(line, ids, torch.arange(length) >= first_label)


def test_an_epoch_takes_each_row_once_in_a_separate_order() -> None:
    epochs = BatchSampler(num_rows=10, batch_size=4, seed=3)
    first = [epochs.rows(step) for step in (1, 2, 3)]
    second = [epochs.rows(step) for step in (4, 5, 6)]
    assert [len(rows) for rows in first] == [4, 4, 2]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(10))
    assert first != second


def test_steps_can_be_read_in_any_order() -> None:
    walked = BatchSampler(10, 4, seed=3)
    for step in range(1, 6):
        expected = walked.rows(step)
        assert BatchSampler(10, 4, seed=3).rows(step) == expected


def test_the_seed_decides_the_order() -> None:
    assert BatchSampler(50, 50, seed=0).rows(1) != BatchSampler(50, 50, seed=1).rows(1)


@given(st.lists(st.integers(2, 40), min_size=1, max_size=30))
def test_micro_batches_keep_to_the_budget_and_lose_no_row(lengths: list[int]) -> None:
    examples = [example(length, 1, line) for line, length in enumerate(lengths, start=1)]
    batches = pack(examples, 32)
    assert sorted(held.line for batch in batches for held in batch.examples) == list(range(1, len(lengths) + 1))
    assert all(batch.input_ids.shape[1] <= 32 or len(batch.examples) == 1 for batch in batches)
    assert sum(len(batch.targets) for batch in batches) == sum(length - 1 for length in lengths)


def plain_best_fit(lengths: list[int], room: int) -> list[list[int]]:
    """Compute best fit decreasing by its definition, which checks every bin for every row."""
    bins: list[list[int]] = []
    left: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        fitting = [bin for bin, rest in enumerate(left) if rest >= lengths[index]]
        if not fitting:
            fitting = [len(bins)]
            bins.append([])
            left.append(room)
        bin = min(fitting, key=left.__getitem__)
        bins[bin].append(index)
        left[bin] -= lengths[index]
    return bins


@given(st.lists(st.integers(0, 40), max_size=200), st.integers(0, 64))
def test_the_fast_algorithm_gives_the_bins_of_the_definition(lengths: list[int], room: int) -> None:
    assert best_fit(lengths, room) == plain_best_fit(lengths, room)


def test_many_rows_a_step_are_packed_at_once() -> None:
    """Limit the time: the plain algorithm took ten thousand times as long for a hundred times as many rows."""
    lengths = [(index * 7919) % 997 + 1 for index in range(65_536)]
    started = time.process_time()
    bins = best_fit(lengths, 1024)
    assert time.process_time() - started < 5
    assert sorted(chain(*bins)) == list(range(len(lengths)))


@given(st.integers(2, 300), st.floats(0.001, 0.999), st.integers(0, 5))
def test_some_rows_are_drawn_for_validation_but_never_all(num_rows: int, share: float, seed: int) -> None:
    drawn = draw_validation_rows(num_rows, share, seed)
    assert 0 < len(set(drawn)) == len(drawn) < num_rows
    assert drawn == sorted(drawn) == draw_validation_rows(num_rows, share, seed)
    assert set(drawn) <= set(range(num_rows))


def test_best_fit_decreasing_fills_the_fullest() -> None:
    batches = pack([example(length + 1, length) for length in (5, 7, 3, 5)], 10)
    assert [[held.num_inputs for held in batch.examples] for batch in batches] == [[7, 3], [5, 5]]


def test_each_position_predicts_the_next_token_of_its_own_document() -> None:
    batch = pack_micro_batch([example(5, 3, line=1), example(4, 1, line=2)])
    assert batch.input_ids[0, :7].tolist() == [100, 101, 102, 103, 200, 201, 202]
    assert batch.position_ids[0, :7].tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert batch.positions.tolist() == [2, 3, 4, 5, 6]
    assert batch.targets.tolist() == [103, 104, 201, 202, 203]
    assert batch.owners.tolist() == [0, 0, 1, 1, 1]


def test_nothing_is_read_after_the_last_label() -> None:
    held = Example(1, torch.arange(6, dtype=torch.int32), torch.tensor([0, 0, 1, 1, 0, 0], dtype=torch.bool))
    batch = pack_micro_batch([held])
    assert batch.input_ids[0, :3].tolist() == [0, 1, 2]
    assert batch.targets.tolist() == [2, 3]
    assert held.num_labelled == 2


@given(st.lists(st.integers(2, 40), min_size=1, max_size=5))
def test_padding_comes_after_all_predicted_positions(lengths: list[int]) -> None:
    batch = pack_micro_batch([example(length, 1) for length in lengths])
    count = batch.input_ids.shape[1]
    assert count % ALIGNED == 0
    assert count == sum(batch.document_lengths) == batch.position_ids.shape[1]
    assert count - ALIGNED < sum(length - 1 for length in lengths) == batch.positions[-1] + 1
