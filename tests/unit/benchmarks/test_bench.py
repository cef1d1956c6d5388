"""The harness from end to end on a tiny model, ours alone: the peers are installed by `make bench` only."""

import json
import operator
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.engines import ENGINES
from benchmarks.ours import order_of_rows, write_peer_rows
from benchmarks.rows import make_rows, read_rows
from benchmarks.table import render
from tests.fixtures.tiny_models import build_tiny_model

SUM = re.compile(r"(\d+) ([+\-x]) (\d+) = (\d+)")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bench")
    model, output = build_tiny_model(folder / "model"), folder / "result.json"
    work = ["--rows", "16", "--repeats", "1", "--threads", "1", "--base-model", str(model)]
    main([*work, "--engines", "qlora", "qlora-equal-tokens", "--only-engines", "--output", str(output)])
    return dict(json.loads(output.read_text()))


@pytest.mark.slow
def test_two_steps_are_measured(result: dict[str, Any]) -> None:
    (engine,) = result["engines"]
    assert engine["name"] == "qlora"
    assert engine["num_steps"] == 2
    assert engine["tokens_per_second"] > engine["labelled_tokens_per_second"] > 0
    assert 50e6 < engine["peak_memory_bytes"] < 4e9
    assert engine["seconds_to_first_step"] > 0
    assert result["work"]["num_tokens"] > result["work"]["num_labelled"] > 0


@pytest.mark.slow
def test_the_common_evaluation_sees_what_was_learned(result: dict[str, Any]) -> None:
    assert result["engines"][0]["validation_loss"] < result["untrained_validation_loss"]["untrained, nf4"]


@pytest.mark.slow
def test_what_cannot_be_measured_is_left_out_with_its_reason(result: dict[str, Any]) -> None:
    assert result["left_out"] == {"qlora-equal-tokens": "it needs results of qlora and trl-equal-tokens"}
    assert {bar["verdict"] for bar in result["bars"]} == {"not measured"}


@pytest.mark.slow
def test_the_table_tells_every_engine(result: dict[str, Any]) -> None:
    assert "| Tunewright, qlora |" in render(result)


def test_names_are_unique() -> None:
    assert len({engine.name for engine in ENGINES}) == len({engine.title for engine in ENGINES}) == len(ENGINES)


def test_rows_are_the_same_each_time_and_mostly_answers() -> None:
    rows = make_rows(96, seed=0)
    assert rows == make_rows(96, seed=0) != make_rows(96, seed=1)
    words = {key: sum(len(row[key].split()) for row in rows) for key in ("prompt", "completion")}
    assert 0.25 < words["prompt"] / sum(words.values()) < 0.45
    assert len({row["prompt"] for row in rows}) == len(rows)


def test_sums_in_answers_add_up() -> None:
    signs = {"+": operator.add, "-": operator.sub, "x": operator.mul}
    sums = [found for row in make_rows(96, seed=0) for found in SUM.findall(row["completion"])]
    assert len(sums) > 96
    for left, sign, right, total in sums:
        assert signs[sign](int(left), int(right)) == int(total)


def test_peers_get_the_rows_in_our_order(tmp_path: Path) -> None:
    rows = make_rows(20, seed=0)
    order = order_of_rows(20, 8, 0)
    assert sorted(order) == list(range(20)) != order
    assert read_rows(write_peer_rows(tmp_path / "peers", rows, order)) == [rows[index] for index in order]
