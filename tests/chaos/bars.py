"""Defines the limits that a run must meet, each with the measured value and its verdict."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.chaos.stack import EXACT_RESUME_WAIT_SECONDS, SCALE

WHOLE = 200
"""Runs with at least this many jobs must also meet the limits on their size and duration."""


class Bar(NamedTuple):
    name: str
    limit: float
    is_least: bool
    """Says whether `limit` is a minimum; otherwise it is a maximum."""
    found: float | None
    """Is None if the run measured no value."""

    @property
    def is_missed(self) -> bool:
        if self.found is None:
            return False
        return self.found < self.limit if self.is_least else self.found > self.limit

    def summary(self) -> dict[str, Any]:
        verdict = "not measured" if self.found is None else "missed" if self.is_missed else "kept"
        return {"at least" if self.is_least else "at most": self.limit, "found": self.found, "verdict": verdict}

    def __str__(self) -> str:
        limit = f"{'at least' if self.is_least else 'at most'} {self.limit:g}"
        found = "nothing" if self.found is None else f"{self.found:g}"
        return f"{'MISSED' if self.is_missed else 'kept'}: {self.name} {found}, {limit}"


def bars(report: Mapping[str, Any]) -> Iterator[Bar]:
    for name, found in report["damage_by_kind"].items():
        yield Bar(name, 0, False, found)
    yield Bar("share_hit_by_a_fault_while_training", 0.6, True, report["hit_while_training"]["share_by_own_faults"])
    yield Bar("fewest_steps", 30, True, report["fewest_steps"])
    yield Bar("longest_checkpoint_interval", 5, False, report["longest_checkpoint_interval"])
    # Scaled with the lease: 75 s for a lease of 60 s.
    limits = {
        "death_to_running": 75 / SCALE,
        "death_to_running_with_a_wait_for_exact_resume": 75 / SCALE + EXACT_RESUME_WAIT_SECONDS,
        "flush_to_running": 10,
        "cancel_to_gone": 15,
    }
    for name, limit in limits.items():
        yield Bar(f"{name}_seconds_p99", limit, False, report["times"][f"{name}_seconds"]["p99"])
    resumes = report["resumes"]
    yield Bar("rolling_releases", 1, True, resumes["rolling_releases"])
    if report["num_jobs"] >= WHOLE:
        yield Bar("num_jobs", WHOLE, True, report["num_jobs"])
        name = "inexact_after_a_drain_of_real_jobs"
        yield Bar(name, 1, True, resumes[name])
        yield Bar("num_real_trainings", 40, True, report["num_real_trainings"])
        yield Bar("seconds", 600 * report["num_jobs"] / WHOLE, False, report["seconds"])
