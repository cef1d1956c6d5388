"""Checks that the README's table matches the recorded JSON, and how bars are judged."""

from typing import Any

import pytest

from benchmarks.bars import Bar, judge
from benchmarks.table import README, recorded, render, section, write_into_readme


def test_the_readme_shows_the_recorded_results() -> None:
    assert section(README.read_text(encoding="utf-8")) == render(recorded())


def test_writing_it_again_changes_nothing() -> None:
    before = README.read_text(encoding="utf-8")
    write_into_readme(recorded())
    assert README.read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    ("value", "side", "verdict"),
    [
        (5.0, "at least", "pass"),
        (4.99, "at least", "miss"),
        (5.0, "at most", "pass"),
        (5.01, "at most", "miss"),
        (None, "at most", "not measured"),
    ],
)
def test_the_verdict_of_a_bar(value: float | None, side: Any, verdict: str) -> None:
    assert Bar("", value, side, 5.0).verdict == verdict


def engine(name: str, speed: float, memory: float, loss: float) -> dict[str, Any]:
    return {"name": name, "tokens_per_second": speed, "peak_memory_bytes": memory, "validation_loss": loss}


def test_ratios_divide_our_result_by_the_peers() -> None:
    engines = [
        engine("qlora", 300, 2e9, 1.0),
        engine("trl-defaults", 50, 4e9, 1.0),
        engine("trl-best", 75, 4e9, 0.98),
        engine("qlora-equal-tokens", 290, 2e9, 1.0),
        engine("trl-equal-tokens", 60, 5e9, 1.0),
    ]
    result = {"engines": engines, "product_share": {"1000": {"product_share": 0.66}}, "checkpoints": {"share": 0.02}}
    found = {bar["text"]: (bar["value"], bar["verdict"]) for bar in judge(result)}
    assert found["tokens/s, qlora over TRL's defaults"] == (6.0, "pass")
    assert found["tokens/s, qlora over TRL's best"] == (4.0, "miss")
    assert found["validation loss, qlora against any peer, relative difference"] == (0.0204, "miss")
    assert found["peak memory over TRL's at equal tokens a micro-batch, neither checkpointing"] == (0.4, "pass")
    assert found["product share at about 1,000 tokens a micro-batch"] == (0.66, "pass")
    assert found["product share at about 2,000 tokens a micro-batch"] == (None, "not measured")
    assert found["share of the time that checkpoints cost, one every 20 s"] == (0.02, "miss")
