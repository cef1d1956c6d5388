import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
import redis
from fastapi.testclient import TestClient

from app import live_metrics
from app.db.session import Sessions, transaction
from app.domain.jobs.state import FailureReason
from app.domain.metric import MetricPoint
from app.jobs.attempts.service import AttemptService
from app.jobs.metrics.repository import MetricRepository
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.keys.service import KeyService, id_of
from app.main import create_app
from app.projects.service import ProjectService
from app.settings import Settings


def point(attempt: int, number: int, step: int, **values: float) -> MetricPoint:
    return MetricPoint(attempt=attempt, number=number, step=step, measured_at=datetime.now(UTC), values=values)


def record(sessions: Sessions, claim: Claim, *points: MetricPoint) -> None:
    with transaction(sessions) as session:
        AttemptService(session, claim).record(points, None)


def plan(sessions: Sessions, claim: Claim, start: int = 0) -> None:
    with transaction(sessions) as session:
        AttemptService(session, claim).plan({}, total_steps=10, start_step=start)


def parse(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Parse server-sent events into dictionaries, strictly by the format."""
    event: dict[str, Any] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
            continue
        if "data" in event:
            yield event | {"data": json.loads(event["data"])}
        event = {}


def test_a_point_sent_twice_is_stored_once(
    sessions: Sessions, project_id: str, post: Callable[..., str], claim: Callable[..., Claim]
) -> None:
    id, held = post(), claim()
    for _ in range(2):
        record(sessions, held, point(1, 1, 1, loss=2.0, grad_norm=1.0))
    with transaction(sessions) as session:
        assert len(MetricRepository(session).after(project_id, id, 0, 0, 10)) == 1


def test_a_curve_takes_the_latest_attempt_and_drops_what_was_rewound(
    sessions: Sessions, api: TestClient, post: Callable[..., str], claim: Callable[..., Claim]
) -> None:
    id, first = post(), claim()
    plan(sessions, first)
    record(sessions, first, *(point(1, step, step, loss=float(step)) for step in range(1, 6)))
    with transaction(sessions) as session:
        AttemptService(session, first).release()
    second = claim()
    plan(sessions, second, start=2)
    record(sessions, second, point(2, 1, 3, loss=30.0))
    items = api.get(f"/jobs/{id}/metrics").json()["items"]
    assert [(item["step"], item["attempt"], item["values"]["loss"]) for item in items] == [
        (1, 1, 1.0),
        (2, 1, 2.0),
        (3, 2, 30.0),
    ]
    assert api.get(f"/jobs/{id}").json()["step"] == 3


def test_curves_page_and_filter(
    sessions: Sessions, api: TestClient, post: Callable[..., str], claim: Callable[..., Claim]
) -> None:
    id, held = post(), claim()
    record(sessions, held, *(point(1, step, step, loss=1.0, grad_norm=2.0) for step in range(1, 6)))
    page = api.get(f"/jobs/{id}/metrics", params={"limit": 2, "names": "loss"}).json()
    assert [item["values"] for item in page["items"]] == [{"loss": 1.0}] * 2
    assert page["next_after_step"] == 2
    rest = api.get(f"/jobs/{id}/metrics", params={"after_step": 2}).json()
    assert [item["step"] for item in rest["items"]] == [3, 4, 5]
    assert rest["next_after_step"] is None


@pytest.fixture
def finished(sessions: Sessions, post: Callable[..., str], claim: Callable[..., Claim]) -> str:
    """A failed job with events and thirty points over two attempts."""
    id = post(max_retries=1)
    for _ in range(2):
        held = claim()
        plan(sessions, held)
        record(sessions, held, *(point(held.attempt, number, number, loss=1.0) for number in range(1, 16)))
        with transaction(sessions) as session:
            AttemptService(session, held).fail(FailureReason.non_finite_loss, "NaN")
    return id


def read(api: TestClient, id: str, last: str | None = None) -> list[dict[str, Any]]:
    headers = {"Last-Event-ID": last} if last else {}
    with api.stream("GET", f"/jobs/{id}/stream", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(parse(answer.iter_lines()))


def test_a_stream_sends_everything_once_and_ends(api: TestClient, finished: str) -> None:
    received = read(api, finished)
    assert [each["data"]["number"] for each in received if each["event"] == "job_event"] == list(range(1, 7))
    points = [(each["data"]["attempt"], each["data"]["number"]) for each in received if each["event"] == "metrics"]
    assert points == [(attempt, number) for attempt in (1, 2) for number in range(1, 16)]
    assert received[-1]["event"] == "end"
    assert received[-1]["data"] == {"state": "failed"}


def test_a_stream_resumes_at_every_position_without_gap_or_repeat(api: TestClient, finished: str) -> None:
    received = read(api, finished)
    for index in range(len(received) - 2):
        assert read(api, finished, received[index]["id"]) == received[index + 1 :]


def test_a_stream_that_was_read_to_its_end_is_answered_with_204(api: TestClient, finished: str) -> None:
    last = read(api, finished)[-1]["id"]
    assert api.get(f"/jobs/{finished}/stream", headers={"Last-Event-ID": last}).status_code == 204


@pytest.mark.parametrize("position", ["x", "1.2", "1.2.-3", "1.2.3.4", "9" * 40 + ".1.1"])
def test_an_invalid_stream_position_is_refused(api: TestClient, finished: str, position: str) -> None:
    answer = api.get(f"/jobs/{finished}/stream", headers={"Last-Event-ID": position})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


@contextmanager
def publishing(redis_url: str, id: str, points: list[MetricPoint]) -> Iterator[None]:
    """Publish repeatedly: the server misses what comes before it subscribes, and sends no point twice."""
    done = threading.Event()

    def publish() -> None:
        with redis.Redis.from_url(redis_url) as client:
            while not done.wait(0.2):
                live_metrics.publish(client, id, points)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_points_arrive_through_redis_before_postgres_has_them_and_once_only(
    sessions: Sessions,
    live_server: str,
    redis_url: str,
    make_key: Callable[..., str],
    project_id: str,
    post: Callable[..., str],
    claim: Callable[..., Claim],
) -> None:
    id, held = post(), claim()
    plan(sessions, held)
    record(sessions, held, point(1, 1, 1, loss=1.0))
    headers = {"Authorization": f"Bearer {make_key()}"}
    with httpx2.stream("GET", f"{live_server}/jobs/{id}/stream", headers=headers, timeout=20) as answer:
        received = parse(answer.iter_lines())
        while (each := next(received))["event"] != "metrics":
            pass
        assert each["data"]["number"] == 1
        with publishing(redis_url, id, [point(1, 2, 2, loss=2.0), point(1, 4, 4, loss=4.0)]):
            # 4 comes without 3: it must wait for Postgres.
            assert next(received)["data"]["number"] == 2
        record(sessions, held, *(point(1, number, number, loss=float(number)) for number in (2, 3, 4)))
        assert [next(received)["data"]["number"] for _ in range(2)] == [3, 4]
        with transaction(sessions) as session:
            AttemptService(session, held).fail(FailureReason.non_finite_loss, "NaN")
        assert [each["event"] for each in received] == ["job_event", "end"]


def test_a_stream_works_without_redis(settings: Settings, api: TestClient, finished: str) -> None:
    lost = settings.model_copy(update={"redis_url": "unix:///nowhere/redis.sock"})
    with TestClient(create_app(lost), headers={"Authorization": api.headers["Authorization"]}) as without:
        assert read(without, finished)[-1]["event"] == "end"
        assert without.get("/readyz").json().items() >= {"database": "ok", "redis": "unreachable"}.items()


def revoke(sessions: Sessions, secret: str) -> None:
    with transaction(sessions) as session:
        KeyService(session).revoke(id_of(secret))


def delete_project(sessions: Sessions, secret: str) -> None:
    with transaction(sessions) as session:
        ProjectService(session).request_deletion(KeyService(session).get(id_of(secret)).key.project_id)


@pytest.mark.parametrize("end", [revoke, delete_project])
@pytest.mark.parametrize("by_cookie", [False, True])
def test_a_stream_ends_within_five_seconds_after_its_key(
    end: Callable[[Sessions, str], None],
    by_cookie: bool,
    sessions: Sessions,
    live_server: str,
    make_key: Callable[..., str],
    project_id: str,
    post: Callable[..., str],
    claim: Callable[..., Claim],
) -> None:
    id, _ = post(), claim()
    secret, _ = make_key(), make_key("other")  # the last project could not be deleted
    with httpx2.Client(base_url=live_server, timeout=20) as client:
        if by_cookie:
            signed_in = client.post("/session", json={"key": secret}, headers={"Origin": live_server})
            assert signed_in.status_code == 201
        else:
            client.headers["Authorization"] = f"Bearer {secret}"
        with client.stream("GET", f"/jobs/{id}/stream") as answer:
            received = parse(answer.iter_lines())
            assert next(received)["event"] == "job_event"
            end(sessions, secret)
            ended_at = time.monotonic()
            assert "end" not in [each["event"] for each in received]
            assert time.monotonic() - ended_at < 5
        assert client.get(f"/jobs/{id}/stream").status_code == 401


def test_a_renewed_lease_is_not_recovered(
    sessions: Sessions, post: Callable[..., str], claim: Callable[..., Claim]
) -> None:
    post()
    held = claim(lease_seconds=1)
    with transaction(sessions) as session:
        QueueService(session).renew(held, 60)
    with transaction(sessions) as session:
        assert QueueService(session).recover_lost_work() == []
