"""Checks that polls, heartbeats and retries of many processes do not happen at the same time."""

from collections.abc import Callable
from typing import Any

import pytest

from app.dispatcher import repeat_duty
from app.jitter import jittered as of_the_server
from app.jobs.queue.repository import Claim
from tunewright.transport import jittered as of_the_client
from tunewright.watch import Outage
from worker.attempt.heartbeat import Heartbeat
from worker.light.lease import RENEWALS_A_LEASE, Lease

COUNT = 100


class Waits:
    """An event that records its waits, and is set after COUNT of them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        return len(self.seconds) == COUNT

    def is_set(self) -> bool:
        return len(self.seconds) == COUNT


def assert_jittered(waits: list[float], seconds: float) -> None:
    shares = [each / seconds for each in waits]
    assert 0.8 <= min(shares) < 0.9 < 1.1 < max(shares) <= 1.2


@pytest.mark.parametrize("jittered", [of_the_server, of_the_client])
def test_a_wait_varies_by_a_fifth(jittered: Callable[[float], float]) -> None:
    assert_jittered([jittered(10) for _ in range(COUNT)], 10)


def test_the_dispatchers_duties_are_jittered() -> None:
    waits: Any = Waits()
    repeat_duty(lambda: None, 5, waits)
    assert_jittered(waits.seconds, 5)


def test_a_heartbeat_is_jittered(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: Any = Waits()
    sessions: Any = None
    heartbeat = Heartbeat(sessions, Claim("proj-1", "ftjob-1", 1, ""), 60, 10)
    monkeypatch.setattr(heartbeat, "_renew", lambda: None)
    monkeypatch.setattr(heartbeat, "_stop", waits)
    heartbeat._beat()
    assert_jittered(waits.seconds, 10)


def test_renewals_of_a_light_workers_lease_are_jittered(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: Any = Waits()
    lease = Lease(lambda: True, 60, waits)
    monkeypatch.setattr(lease, "_ended", waits)
    lease._renew()
    assert_jittered(waits.seconds, 60 / RENEWALS_A_LEASE)


def test_retries_of_a_refused_client_are_jittered(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    outage = Outage()
    for _ in range(COUNT):
        outage.wait()
        outage.end()
    assert_jittered(waits, outage.delay)
