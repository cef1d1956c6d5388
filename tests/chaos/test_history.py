"""Tests the consistency check with correct histories and with one fault at a time."""

from typing import Any

import pytest

from tests.chaos.consistency import fold
from tests.chaos.history import History, RecordedEvent
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
    return History([RecordedEvent(number, *fact) for number, fact in enumerate(facts, start=1)])


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
    replayed = history(*facts)
    assert (replayed.faults, replayed.state, replayed.outcomes) == ([], state, outcomes)


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
    assert History([RecordedEvent(1, *CREATED), RecordedEvent(3, *CANCELLED)]).faults


def test_a_curve_folds_by_what_later_attempts_rewind() -> None:
    points = [(1, 1, 1), (1, 2, 2), (1, 3, 3), (3, 1, 3), (3, 2, 4)]
    assert fold(points, {2: 2, 3: 2}) == [1, 2, 3, 4]
    assert fold(points, {3: 3}) == [1, 2, 3, 3, 4]


def test_a_seed_is_a_plan() -> None:
    assert draw_jobs(3, 50, 10) == draw_jobs(3, 50, 10) != draw_jobs(4, 50, 10)
    assert sum(plan.real for plan in draw_jobs(3, 50, 10)) == 10


THREADS = {1: 1, 2: 2, 3: 1}
"""Maps workers' process ids to their numbers of threads."""


def claimed_by(attempt: int, pid: int) -> Fact:
    return "job_claimed", {"attempt": attempt, "worker": f"some-host-{pid}"}


def saved(step: int) -> Fact:
    return "checkpoint_saved", {"step": step}


def resumed(attempt: int, step: int) -> Fact:
    return "job_resumed", {"attempt": attempt, "step": step}


def resumes(*facts: Fact) -> Resumes:
    return Resumes([RecordedEvent(number, *fact) for number, fact in enumerate(facts, start=1)], THREADS)


RELEASED: Fact = of("attempt_released", 1)
BEGUN = (claimed_by(1, 1), saved(5), RELEASED)


@pytest.mark.parametrize(
    ("facts", "inexact"),
    [
        ([], []),
        ([claimed_by(2, 3), resumed(2, 5)], []),
        ([claimed_by(2, 2), resumed(2, 5)], [(5, 1, 2)]),
        ([claimed_by(2, 2), resumed(2, 0)], []),
        # A lost attempt on the other worker does not count; a checkpoint saved there does.
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
    reported = {"exact": False, "inexact_resumes": [{"step": 5, "differs": {FACT: {"before": 1, "now": 2}}}]}
    failed = RecordedEvent(9, "job_failed", {"reason": "inexact_resume"})
    assert list(check_resumes([], expected, reported, "it")) == []
    assert len(list(check_resumes([failed], expected, reported, "it"))) == 1
    assert len(list(check_resumes([], expected, reported | {"exact": True}, "it"))) == 1
    assert len(list(check_resumes([], expected, {"exact": True, "inexact_resumes": []}, "it"))) == 2
