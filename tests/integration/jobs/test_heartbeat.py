"""The heartbeat thread survives errors at each of its steps."""

import itertools
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from app.db.session import Sessions
from app.db.tables import Job
from app.domain.jobs.state import JobState
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.jobs.service import JobService
from worker.attempt.heartbeat import Heartbeat

LEASE_SECONDS = 30
BEAT_SECONDS = 0.02
ERRORS = (OSError, TimeoutError, ValueError)


def wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


class Fault:
    """Raises each of the errors in turn."""

    count = 0

    def __call__(self, *_: object, **__: object) -> Any:
        self.count += 1
        raise ERRORS[self.count % len(ERRORS)]("injected")

    def every_other_time(self, real: Callable[..., Any]) -> Callable[..., Any]:
        turns = itertools.cycle([self, real])
        return lambda *args, **named: next(turns)(*args, **named)


def break_step(step: str, heartbeat: Heartbeat, fault: Fault, patch: pytest.MonkeyPatch) -> None:
    """Make a step fail: each time if it only reads or reports, every other time if the lease depends on it."""
    match step:
        case "read the log":
            heartbeat.log_tail = fault
        case "keep the log":
            heartbeat.log_tail = lambda: f"line {fault.count}"
            patch.setattr(AttemptService, "keep_log", fault)
        case "time left":
            patch.setattr(AttemptService, "seconds_left", fault)
        case "renew":
            patch.setattr(QueueService, "renew", fault.every_other_time(QueueService.renew))
        case "connect":
            patch.setattr(heartbeat, "_sessions", fault.every_other_time(heartbeat._sessions))
        case "commit":
            patch.setattr("app.db.session.reach", fault.every_other_time(lambda name: None))


@pytest.mark.parametrize("step", ["read the log", "keep the log", "time left", "renew", "connect", "commit"])
def test_the_lease_is_renewed_and_requests_arrive_whichever_step_fails(
    step: str,
    sessions: Sessions,
    project_id: str,
    post: Callable[..., str],
    claim: Callable[..., Claim],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    id, held, fault = post(), claim(), Fault()
    heartbeat = Heartbeat(sessions, held, LEASE_SECONDS, BEAT_SECONDS)
    shorter = update(Job).values(lease_until=Job.lease_until - timedelta(days=1)).returning(Job.lease_until)
    with monkeypatch.context() as patch:
        break_step(step, heartbeat, fault, patch)
        with heartbeat:
            wait_for(lambda: fault.count > 2 * len(ERRORS))
            with sessions.begin() as session:
                short = session.scalars(shorter).one()
            wait_for(lambda: lease(sessions, id) > short + timedelta(hours=23))
            with sessions.begin() as session:
                JobService(session).pause(project_id, id)
            wait_for(lambda: heartbeat.state is JobState.pausing)
            with sessions.begin() as session:
                JobService(session).cancel(project_id, id)
            wait_for(lambda: heartbeat.state is JobState.cancelling)
            assert not heartbeat.stale
    assert heartbeat.num_failed >= fault.count


def lease(sessions: Sessions, id: str) -> datetime:
    with sessions() as session:
        job = session.get_one(Job, id)
        assert job.lease_until is not None
        return job.lease_until
