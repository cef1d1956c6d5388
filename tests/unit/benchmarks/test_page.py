from typing import Any

import pytest

from benchmarks.page.__main__ import judge
from benchmarks.page.live import Seen, measure_delays
from tests.page.soak import find_faults

COMMITTED = [Seen("a", 1, 10.0), Seen("a", 2, 11.0), Seen("b", 7, 10.5)]


def test_a_step_that_was_skipped_counts_with_the_next_one() -> None:
    found = measure_delays(COMMITTED, [Seen("a", 2, 11.5), Seen("b", 7, 11.0)], until=20.0)
    assert (found["p50_ms"], found["max_ms"], found["num_behind"]) == (500.0, 1500.0, 0)


def test_rows_that_are_late_or_silent_are_behind() -> None:
    late = measure_delays(COMMITTED, [Seen("a", 2, 11.5), Seen("b", 7, 14.0)], until=20.0)
    silent = measure_delays(COMMITTED, [Seen("a", 2, 11.5)], until=20.0)
    assert (late["num_behind"], silent["num_behind"]) == (1, 1)


def test_a_part_that_was_not_measured_passes_no_bar() -> None:
    verdicts = [bar["verdict"] for bar in judge({"first_view": {"num_bytes": 120_001}, "list": {"num_behind": 0}})]
    assert verdicts == ["miss", "not measured", "not measured", "pass"]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"growth_bytes": 4 * 2**20}, "The heap grew by more than 3.2 MiB"),
        ({"growth_bytes": 4 * 2**20, "minutes": 60}, None),
        ({"num_steps_of_each": 29}, "too few steps"),
        ({"num_steps_shown": 0}, "too few"),
        ({"problems": ["console: It broke"]}, "It broke"),
    ],
)
def test_a_soak_fails_for_growth_and_for_jobs_that_stand_still(changes: dict[str, Any], fault: str | None) -> None:
    result = {"minutes": 2, "growth_bytes": 2**20, "num_steps_asked": 120, "num_steps_of_each": 100,
              "num_steps_shown": 95, "problems": []} | changes  # fmt: skip
    faults = find_faults(result)
    assert (fault is None) == (faults == [])
    assert fault is None or fault in faults[0]
