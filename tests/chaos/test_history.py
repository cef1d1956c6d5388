"""The books' own eyes: histories that are in order, and one fault at a time."""

from typing import Any

import pytest

from tests.chaos.books import fold
from tests.chaos.history import History, Told
from tests.chaos.plan import draw_jobs

Fact = tuple[str, dict[str, Any]]


def claimed(attempt: int) -> Fact:
    return "job_claimed", {"attempt": attempt}


def of(name: str, attempt: int) -> Fact:
    return name, {"attempt": attempt}


CREATED: Fact = ("job_created", {})
SUCCEEDED: Fact = ("job_succeeded", {})
CANCELLED: Fact = ("job_cancelled", {})
LOST: Fact = of("attempt_lost", 1)


def history(*facts: Fact) -> History:
    return History([Told(number, *fact) for number, fact in enumerate(facts, start=1)])


@pytest.mark.parametrize(
    ("facts", "state", "outcomes"),
    [
        ([CREATED, claimed(1), SUCCEEDED], "succeeded", {1: "succeeded"}),
        ([CREATED, claimed(1), LOST, claimed(2), SUCCEEDED], "succeeded", {1: "lost", 2: "succeeded"}),
        ([CREATED, claimed(1), LOST, of("attempt_recovered", 1), SUCCEEDED], "succeeded", {1: "succeeded"}),
        ([CREATED, claimed(1), LOST, ("job_failed", {})], "failed", {1: "lost"}),
        ([CREATED, claimed(1), ("cancel_requested", {}), LOST, CANCELLED], "cancelled", {1: "lost"}),
        ([CREATED, claimed(1), ("cancel_requested", {}), CANCELLED], "cancelled", {1: "cancelled"}),
        ([CREATED, claimed(1), ("pause_requested", {}), ("job_paused", {})], "paused", {1: "paused"}),
        (
            [CREATED, claimed(1), ("pause_requested", {}), ("resume_requested", {}), of("attempt_released", 1)],
            "queued",
            {1: "released"},
        ),
        ([CREATED, CANCELLED], "cancelled", {}),
    ],
)
def test_a_history_in_order_explains_state_and_attempts(
    facts: list[Fact], state: str, outcomes: dict[int, str]
) -> None:
    told = history(*facts)
    assert (told.faults, told.state, told.outcomes) == ([], state, outcomes)


@pytest.mark.parametrize(
    "facts",
    [
        [CREATED, claimed(1), SUCCEEDED, SUCCEEDED],
        [CREATED, claimed(1), claimed(2)],
        [CREATED, claimed(2)],
        [CREATED, claimed(1), SUCCEEDED, CANCELLED],
        [CREATED, claimed(1), LOST, claimed(2), of("attempt_released", 1)],
        [CREATED, claimed(1), LOST, claimed(2), of("job_resumed", 1)],
        [CREATED, claimed(1), of("attempt_recovered", 1)],
        [CREATED, SUCCEEDED],
        [claimed(1)],
    ],
)
def test_what_does_not_follow_is_a_fault(facts: list[Fact]) -> None:
    assert history(*facts).faults


def test_a_missing_event_is_a_fault() -> None:
    assert History([Told(1, *CREATED), Told(3, *CANCELLED)]).faults


def test_a_curve_folds_by_what_later_attempts_rewind() -> None:
    told = [(1, 1, 1), (1, 2, 2), (1, 3, 3), (3, 1, 3), (3, 2, 4)]
    assert fold(told, {2: 2, 3: 2}) == [1, 2, 3, 4]
    assert fold(told, {3: 3}) == [1, 2, 3, 3, 4]


def test_a_seed_is_a_plan() -> None:
    assert draw_jobs(3, 50, 10) == draw_jobs(3, 50, 10) != draw_jobs(4, 50, 10)
    assert sum(plan.real for plan in draw_jobs(3, 50, 10)) == 10
