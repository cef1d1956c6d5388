"""The books' own eyes: histories that are in order, and one fault at a time."""

from typing import Any

import pytest

from tests.chaos.books import fold
from tests.chaos.history import History, Told
from tests.chaos.plan import draw_jobs
from tests.chaos.resumes import FACT, Inexact, Resumes, check_resumes

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


THREADS = {1: 1, 2: 2, 3: 1}
"""Of the workers whose processes have these numbers."""


def claimed_by(attempt: int, pid: int) -> Fact:
    return "job_claimed", {"attempt": attempt, "worker": f"some-host-{pid}"}


def saved(step: int) -> Fact:
    return "checkpoint_saved", {"step": step}


def resumed(attempt: int, step: int) -> Fact:
    return "job_resumed", {"attempt": attempt, "step": step}


def resumes(*facts: Fact) -> Resumes:
    return Resumes([Told(number, *fact) for number, fact in enumerate(facts, start=1)], THREADS)


RELEASED: Fact = of("attempt_released", 1)
BEGUN = (claimed_by(1, 1), saved(5), RELEASED)


@pytest.mark.parametrize(
    ("facts", "inexact"),
    [
        ([], []),
        ([claimed_by(2, 3), resumed(2, 5)], []),
        ([claimed_by(2, 2), resumed(2, 5)], [(5, 1, 2)]),
        ([claimed_by(2, 2), resumed(2, 0)], []),
        # What was lost on the other worker does not count; what it has saved counts for good.
        ([claimed_by(2, 2), resumed(2, 5), of("attempt_lost", 2), claimed_by(3, 1), resumed(3, 5)], []),
        (
            [claimed_by(2, 2), resumed(2, 5), saved(10), of("attempt_lost", 2), claimed_by(3, 1), resumed(3, 10)],
            [(5, 1, 2), (10, 2, 1)],
        ),
    ],
)
def test_a_job_is_exact_unless_its_checkpoints_went_on_elsewhere(facts: list[Fact], inexact: list[Inexact]) -> None:
    found = resumes(*BEGUN, *facts)
    assert (list(found.inexact), found.faults) == (inexact, [])


def test_resumes_are_counted_and_each_claim_has_its_exact_worker() -> None:
    found = resumes(*BEGUN, claimed_by(2, 2), resumed(2, 5), of("attempt_lost", 2), claimed_by(3, 3), resumed(3, 5))
    assert (found.num_exact, found.num_inexact, found.num_drained_across) == (1, 1, 1)
    assert found.wanted == {2: 1, 3: 1}
    assert resumes(*BEGUN, claimed_by(2, 2), resumed(2, 7)).faults


def test_what_a_job_says_of_its_exactness_is_compared() -> None:
    expected = resumes(*BEGUN, claimed_by(2, 2), resumed(2, 5))
    told = {"exact": False, "inexact_resumes": [{"step": 5, "differs": {FACT: {"before": 1, "now": 2}}}]}
    failed = Told(9, "job_failed", {"reason": "inexact_resume"})
    assert list(check_resumes([], expected, told, "it")) == []
    assert len(list(check_resumes([failed], expected, told, "it"))) == 1
    assert len(list(check_resumes([], expected, told | {"exact": True}, "it"))) == 1
    assert len(list(check_resumes([], expected, {"exact": True, "inexact_resumes": []}, "it"))) == 2
