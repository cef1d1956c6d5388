"""The state machine of jobs under random histories drawn by Hypothesis; `make fuzz` runs 100,000 steps."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy.exc import IntegrityError

from app.db.tables import Job
from app.domain.jobs.state import LAPSE, JobState
from app.jobs.attempts import repository as attempts
from app.jobs.queue import repository as queue
from app.jobs.queue import service as queue_service
from app.jobs.queue.repository import Claim
from tests.integration.jobs.job_machine import JobMachine
from tests.integration.jobs.job_world import World, opened

NIGHTLY_STEPS = 100_000
SHORT = settings(max_examples=16, stateful_step_count=50, deadline=None)


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    with opened(database_url) as world:
        yield world


def test_every_history_matches_the_model(world: World) -> None:
    nightly = settings.get_current_profile_name() == "nightly"
    JobMachine.steps = 0
    run_state_machine_as_test(lambda: JobMachine(world), settings=settings() if nightly else SHORT)
    assert not nightly or JobMachine.steps >= NIGHTLY_STEPS


def unfenced(claim: Claim) -> tuple[Any, ...]:
    return Job.project_id == claim.project_id, Job.id == claim.job_id


BREAKAGES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a write without a fence": lambda patch: [patch.setattr(module, "owned", unfenced) for module in (queue, attempts)],
    "a pause that lapses into the queue": lambda patch: patch.setitem(LAPSE, JobState.pausing, JobState.queued),
    "one more loss than allowed": lambda patch: patch.setattr(queue_service, "MAX_LOST_ATTEMPTS", 21),
}


@pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=BREAKAGES)
def test_the_machine_finds(
    breakage: Callable[[pytest.MonkeyPatch], None], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    breakage(monkeypatch)
    seeking = settings(
        max_examples=300,
        stateful_step_count=50,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    with pytest.raises((AssertionError, IntegrityError, pytest.fail.Exception)):
        run_state_machine_as_test(lambda: JobMachine(world), settings=seeking)
