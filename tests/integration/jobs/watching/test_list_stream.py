"""The stream of a project's list of jobs: `GET /stream?job=*`."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest

from app.db.session import Sessions, transaction
from app.jobs.service import JobService
from app.jobs.watching import project_news, project_watcher
from app.keys.service import KeyService, id_of

Message = dict[str, Any]
Open = Callable[..., AbstractContextManager[Iterator[Message]]]


def read_list(messages: Iterator[Message]) -> list[str]:
    """Return the ids up to `listed`, whose count must be theirs."""
    ids: list[str] = []
    while (message := next(messages))["event"] == "job":
        ids.append(message["data"]["id"])
    assert (message["event"], message["data"]) == ("listed", {"count": len(ids)})
    return ids


def until(messages: Iterator[Message], kind: str, **values: Any) -> Message:
    for message in messages:
        if message["event"] == kind and message["data"].items() >= values.items():
            return message
    raise AssertionError("the stream ended")


@pytest.fixture
def cancel(sessions: Sessions, project_id: str) -> Callable[[str], None]:
    def end(id: str) -> None:
        with transaction(sessions) as session:
            JobService(session).cancel(project_id, id)

    return end


@pytest.fixture
def delete(sessions: Sessions, project_id: str) -> Callable[[str], None]:
    def remove(id: str) -> None:
        with transaction(sessions) as session:
            JobService(session).delete(project_id, id)

    return remove


def test_it_lists_unfinished_jobs_and_then_reports_each_change(
    post: Callable[..., str],
    work: Callable[..., Any],
    open_stream: Open,
    client: httpx2.Client,
    cancel: Callable[[str], None],
    delete: Callable[[str], None],
) -> None:
    held, ended = work(), post()
    cancel(ended)
    queued = post()
    with open_stream("*") as messages:
        assert read_list(messages) == [queued, held.id]
        created = post()
        message = until(messages, "job", id=created)
        listed = client.get("/jobs", params={"limit": 1}).json()["items"]
        assert message == {"event": "job", "data": listed[0]}
        held.record(3)
        assert until(messages, "job", id=held.id, step=3)["data"]["last_metrics"] == {"loss": 1 / 3}
        cancel(queued)
        until(messages, "job", id=queued, state="cancelled")
        for each in (queued, ended):
            delete(each)
            assert until(messages, "deleted")["data"] == {"job_id": each}
    with open_stream("*", last="1.2.3") as messages:
        assert read_list(messages) == [created, held.id]


def test_a_job_that_ends_within_a_second_is_reported(
    post: Callable[..., str], open_stream: Open, cancel: Callable[[str], None]
) -> None:
    with open_stream("*") as messages:
        assert read_list(messages) == []
        id = post()
        cancel(id)
        until(messages, "job", id=id, state="cancelled")


def test_changes_of_a_job_come_at_most_once_a_second(work: Callable[..., Any], open_stream: Open) -> None:
    held = work()
    with open_stream("*") as messages:
        read_list(messages)
        began = time.monotonic()
        for _ in range(20):
            held.record()
            time.sleep(0.1)
        held.fail()
        steps = []
        for message in messages:
            steps.append(message["data"]["step"])
            if message["data"]["state"] == "failed":
                break
        assert steps == sorted(steps)
        assert len(steps) <= 2 + (time.monotonic() - began)


def test_the_newest_are_listed_and_all_are_reported(
    post: Callable[..., str], open_stream: Open, cancel: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project_news, "MOST_LISTED", 2)
    monkeypatch.setattr(project_news, "MOST_CHANGED", 2)
    ids = [post() for _ in range(5)]
    with open_stream("*") as messages:
        assert read_list(messages) == [ids[4], ids[3]]
        for each in (ids[4], *ids[:3]):
            cancel(each)
        reported = [next(messages)["data"] for _ in range(4)]
        assert {(each["id"], each["state"]) for each in reported} == {
            (each, "cancelled") for each in (ids[4], *ids[:3])
        }
        with open_stream("*") as others:
            assert read_list(others) == [ids[3]]


def test_another_projects_jobs_are_not_streamed(
    post: Callable[..., str], client: httpx2.Client, open_stream: Open, make_key: Callable[..., str]
) -> None:
    client.headers["Authorization"] = f"Bearer {make_key('other')}"
    post()
    with open_stream("*") as messages:
        assert read_list(messages) == []


@pytest.mark.parametrize("query", ["job=*&job=ftjob-" + "0" * 24, "job=*&after=1.2.3"])
def test_it_stands_alone(client: httpx2.Client, query: str) -> None:
    answer = client.get(f"/stream?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_it_ends_within_five_seconds_after_its_key(
    sessions: Sessions, post: Callable[..., str], open_stream: Open, client: httpx2.Client
) -> None:
    post()
    with open_stream("*") as messages:
        read_list(messages)
        with transaction(sessions) as session:
            KeyService(session).revoke(id_of(client.headers["Authorization"].removeprefix("Bearer ")))
        revoked_at = time.monotonic()
        assert list(messages) == []
        assert time.monotonic() - revoked_at < 5


def test_a_reader_that_is_too_slow_must_list_again(
    work: Callable[..., Any], open_stream: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes are forgotten at once, so that each reader is too slow for the second one."""
    monkeypatch.setattr(project_watcher, "KEPT_SECONDS", -1.0)
    held = work()
    with open_stream("*") as messages:
        read_list(messages)
        held.record()
        assert list(messages) == []
