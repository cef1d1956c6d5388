"""Tests when checkpoints are written: by steps, by time, and by their cost."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.unit.training.conftest import Recorder, make_spec
from worker.training.checkpoint import saving
from worker.training.checkpoint.saving import SaveTimes
from worker.training.loop.training_loop import train
from worker.training.runtime.messages import Planned, TrainingRequest


def saves(
    steps: int, step_seconds: float | Callable[[int], float], costs: Callable[[int], float], **training: object
) -> tuple[list[int], int]:
    """Return the steps after which a job saves, without the last one, and the resolved `save_every`."""
    now = 0.0
    times = SaveTimes(make_spec(training={"save_every": "auto"} | training).training, steps, lambda: now)
    times.add_cost(costs(0))
    times.start(0)
    found = []
    for step in range(1, steps):
        now += step_seconds(step) if callable(step_seconds) else step_seconds
        if times.is_due(step):
            found.append(step)
            now += costs(len(found))
            times.record_save(step, costs(len(found)) / 2)
            times.add_cost(costs(len(found)) / 2)
    return found, times.every


def test_a_short_job_saves_ten_times_if_it_costs_nothing() -> None:
    assert saves(40, 0.5, lambda _: 0.001) == (list(range(4, 40, 4)), 4)


def test_saving_costs_at_most_one_per_cent_of_the_time() -> None:
    assert saves(40, 0.5, lambda _: 0.058) == ([12, 24, 36], 4)
    assert saves(40, 0.5, lambda _: 0.3) == ([], 4)


def test_a_fast_first_step_does_not_delay_checkpoints() -> None:
    """Check a dry run that was slow to save, too. The previous checkpoint's cost decides when the next is due, not
    an estimate of a step's seconds."""
    found, every = saves(10, lambda step: 0.2 if step == 1 else 3.0, lambda number: 0.08 if number else 0.03)
    assert (found, every) == ([2, 5, 8], 1)
    late, _ = saves(10, lambda step: 3.0, lambda number: 0.02 if number else 0.2)
    assert late == [7, 8, 9]


def test_a_long_job_saves_by_time() -> None:
    found, every = saves(100_000, 1.0, lambda _: 0.001)
    assert every == 10_000
    assert found[:3] == [600, 1200, 1800]


def test_a_growing_cost_makes_saves_rarer() -> None:
    steps = 20_000
    found, _ = saves(steps, 1.0, lambda number: 2.0 * number)
    spent = sum(2.0 * number for number in range(1, len(found)))
    assert len(found) > 3
    assert spent / steps < 0.011
    assert found[-1] - found[-2] > found[1] - found[0]


def test_explicit_steps_are_saved_at_any_cost() -> None:
    assert saves(10, 1.0, lambda _: 5.0, save_every=3) == ([3, 6, 9], 3)
    by_clock, _ = saves(30, 1.0, lambda _: 0.0, save_every=10, save_every_seconds=7)
    assert by_clock == [7, 10, 17, 20, 27]


def test_the_resolved_auto_is_reported_and_changes_no_number(
    make_request: Callable[..., TrainingRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use dropout, which draws from the random state that a checkpoint holds."""
    monkeypatch.setattr(saving, "SHARE", 1e6)
    runs = {}
    for name, every in (("auto", "auto"), ("never", 1000)):
        spec = make_spec(adapter={"dropout": 0.1}, training={"save_every": every, "max_steps": 20})
        runs[name] = Recorder()
        train(make_request(spec=spec, work_dir=tmp_path / name), runs[name])
    assert [line.step for line in runs["auto"].checkpoints()] == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    [planned] = [line for line in runs["auto"].lines if isinstance(line, Planned)]
    assert planned.resolved["training"]["save_every"] == 2
    assert runs["never"].checkpoints() == []
    assert runs["auto"].losses() == runs["never"].losses()
    results = [load_file(tmp_path / name / "result/adapter_model.safetensors") for name in runs]
    assert all(results[0][key].equal(results[1][key]) for key in results[0])
