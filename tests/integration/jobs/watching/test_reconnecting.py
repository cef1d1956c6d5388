"""Readers whose connections break at random, and readers that begin after a job's history."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

import httpx2
import pytest
import redis

from app import live_metrics
from app.jobs.metrics.repository import MetricRepository

Message = dict[str, Any]
Open = Callable[..., AbstractContextManager[Iterator[Message]]]


def facts(messages: list[Message], job_id: str) -> list[tuple[str, int]]:
    """Return the job's events and points, each by kind and number."""
    return [
        (each["event"], each["data"]["number"])
        for each in messages
        if each["event"] in ("job_event", "metrics") and each["data"]["job_id"] == job_id
    ]


def run_at_random(chance: random.Random, redis_url: str, held: Any, count: int) -> None:
    """Publish points and store them some time later, as a worker does. Some are never published."""
    with redis.Redis.from_url(redis_url) as client:
        for _ in range(count):
            points = held.points(chance.randint(1, 5))
            if chance.random() < 0.8:
                live_metrics.publish(client, held.id, points)
            time.sleep(chance.uniform(0, 0.05))
            held.store(points)
    held.fail()


@pytest.mark.parametrize("seed", [1, 2])
def test_each_event_arrives_once_and_in_order_however_often_the_connection_breaks(
    seed: int,
    work: Callable[..., Any],
    open_stream: Open,
    redis_url: str,
) -> None:
    chance = random.Random(seed)
    jobs = [work() for _ in range(3)]
    workers = [
        threading.Thread(target=run_at_random, args=(random.Random(f"{seed} {number}"), redis_url, held, 25))
        for number, held in enumerate(jobs)
    ]
    for worker in workers:
        worker.start()
    received: list[Message] = []
    ids, last = [held.id for held in jobs], None
    while True:
        with open_stream(*ids, last=last) as messages:
            some = list(islice(messages, chance.randint(1, 40)))
        if not some:
            break
        received += some
        last = some[-1]["id"]
    for worker in workers:
        worker.join()
    for held in jobs:
        events = [("job_event", number) for number in (1, 2, 3)]
        points = [("metrics", number) for number in range(1, held.num_points + 1)]
        found = facts(received, held.id)
        assert [each for each in found if each[0] == "job_event"] == events
        assert [each for each in found if each[0] == "metrics"] == points


@pytest.mark.parametrize("after_first", [True, False])
def test_history_and_stream_contain_each_point_once(
    after_first: bool,
    work: Callable[..., Any],
    open_stream: Open,
    client: httpx2.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Points are written between the statements that read the curve and the position."""
    held = work()
    held.record(5)
    name = "find_newest" if after_first else "overview"
    read = getattr(MetricRepository, name)

    def read_slowly(*given: Any) -> Any:
        if not after_first:
            held.record(3)
        found = read(*given)
        if after_first:
            held.record(3)
        return found

    monkeypatch.setattr(MetricRepository, name, read_slowly)
    history = client.get(f"/jobs/{held.id}/metrics").json()
    monkeypatch.undo()
    events = client.get(f"/jobs/{held.id}/events").json()
    assert (events["stream_cursor"], history["stream_cursor"]) == ("2", "1.5")
    held.record(2)
    held.fail()
    after = f"{held.id}:{events['stream_cursor']}.{history['stream_cursor']}"
    with open_stream(held.id, after=after) as messages:
        tail = list(messages)
    assert facts(tail, held.id) == [("job_event", 3), *(("metrics", number) for number in range(6, 11))]
    assert [each["number"] for each in history["items"]] == [1, 2, 3, 4, 5]


def test_the_position_of_a_page(work: Callable[..., Any], client: httpx2.Client) -> None:
    held = work()
    events = f"/jobs/{held.id}/events"
    assert client.get(events, params={"limit": 1}).json()["stream_cursor"] == "1"
    assert client.get(events, params={"after": 1}).json()["stream_cursor"] == "2"
    assert client.get(events, params={"after": 99}).json()["stream_cursor"] == "2"
    metrics = f"/jobs/{held.id}/metrics"
    assert client.get(metrics).json()["stream_cursor"] == "0.0"
    held.record(3)
    assert client.get(metrics, params={"limit": 2}).json()["stream_cursor"] == "1.3"
    assert client.get(metrics, params={"from_step": 1, "to_step": 2}).json()["stream_cursor"] == "1.3"
