"""Provides readers of live streams, and workers that write events and points."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from app.db.session import Sessions, transaction
from app.domain.jobs.state import FailureReason
from app.domain.metric import MetricPoint
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim

Message = dict[str, Any]
Open = Callable[..., AbstractContextManager[Iterator[Message]]]
STARTED = datetime(2026, 1, 5, tzinfo=UTC)


def parse(lines: Iterator[str]) -> Iterator[Message]:
    """Parse server-sent events into dictionaries, strictly by the format."""
    event: Message = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
            continue
        if "data" in event:
            yield event | {"data": json.loads(event["data"])}
        event = {}


@pytest.fixture
def client(live_server: str, make_key: Callable[..., str], project_id: str) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {make_key()}"}
    with httpx2.Client(base_url=live_server, headers=headers, timeout=20) as client:
        yield client


@pytest.fixture
def open_stream(client: httpx2.Client) -> Open:
    """Return a context manager that opens `/stream`, or another path, and yields its messages; none for 204."""

    @contextmanager
    def opened(*ids: str, last: str | None = None, path: str = "/stream", **params: str) -> Iterator[Iterator[Message]]:
        headers = {"Last-Event-ID": last} if last else {}
        query = [("job", id) for id in ids] + list(params.items())
        with client.stream("GET", path, params=query, headers=headers) as answer:
            if answer.status_code == 204:
                yield iter(())
                return
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield parse(answer.iter_lines())

    return opened


class Work:
    """Represents a worker that holds a job."""

    def __init__(self, sessions: Sessions, claim: Claim) -> None:
        self.sessions, self.claim, self.id = sessions, claim, claim.job_id
        self.num_points = 0

    def plan(self) -> None:
        with transaction(self.sessions) as session:
            AttemptService(session, self.claim).plan({}, total_steps=100, start_step=0)

    def points(self, count: int) -> list[MetricPoint]:
        """Return the next points, which are not stored yet."""
        numbers = range(self.num_points + 1, self.num_points + count + 1)
        self.num_points += count
        return [
            MetricPoint(attempt=self.claim.attempt, number=n, step=n, measured_at=STARTED, values={"loss": 1 / n})
            for n in numbers
        ]

    def record(self, count: int = 1) -> None:
        self.store(self.points(count))

    def store(self, points: list[MetricPoint]) -> None:
        with transaction(self.sessions) as session:
            AttemptService(session, self.claim).record(points, None)

    def fail(self) -> None:
        with transaction(self.sessions) as session:
            AttemptService(session, self.claim).fail(FailureReason.non_finite_loss, "NaN")


@pytest.fixture
def work(sessions: Sessions, post: Callable[..., str], claim: Callable[..., Claim]) -> Callable[..., Work]:
    """Post a job and claim it."""

    def begin(**fields: Any) -> Work:
        post(**fields)
        held = Work(sessions, claim())
        held.plan()
        return held

    return begin
