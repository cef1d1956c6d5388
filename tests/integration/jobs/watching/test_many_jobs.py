"""One stream of several jobs: `GET /stream?job=…&job=…`."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest

from app.db.session import Sessions, transaction
from app.jobs.service import JobService
from app.keys.service import KeyService, id_of

Message = dict[str, Any]
Open = Callable[..., AbstractContextManager[Iterator[Message]]]
NO_JOB = "ftjob-" + "0" * 24


def until(messages: Iterator[Message], kind: str, job_id: str) -> list[Message]:
    """Return the messages up to the first of this kind about the job."""
    received = []
    for message in messages:
        received.append(message)
        if (message["event"], message["data"]["job_id"]) == (kind, job_id):
            return received
    raise AssertionError(f"the stream ended: {received}")


def facts(messages: list[Message]) -> list[tuple[Any, ...]]:
    """Return job, kind, attempt and number of the events and points."""
    return [
        (each["data"]["job_id"], each["event"], each["data"].get("attempt"), each["data"]["number"])
        for each in messages
        if each["event"] in ("job_event", "metrics")
    ]


def test_each_job_has_its_values_its_events_and_its_end(
    work: Callable[..., Any], open_stream: Open, client: httpx2.Client
) -> None:
    first, second = work(), work()
    first.record(2)
    first.fail()
    with open_stream(first.id, second.id) as messages:
        received = until(messages, "end", first.id)
        of_first = [each for each in received if each["data"]["job_id"] == first.id]
        assert [each["event"] for each in of_first] == ["job", *["job_event"] * 3, *["metrics"] * 2, "end"]
        assert of_first[-1]["data"] == {"job_id": first.id, "state": "failed"}
        second.record()
        second.fail()
        rest = list(messages)
    assert all(next(iter(each["data"])) == "job_id" for each in received + rest)
    assert rest[-1]["event"] == "end"
    assert rest[-1]["id"] == f"{first.id}:3.1.2,{second.id}:3.1.1"
    again = client.get("/stream", params={"job": [first.id, second.id]}, headers={"Last-Event-ID": rest[-1]["id"]})
    assert again.status_code == 204


def test_the_events_of_the_single_stream_are_the_same(work: Callable[..., Any], open_stream: Open) -> None:
    held = work()
    held.record(2)
    held.fail()
    with open_stream(path=f"/jobs/{held.id}/stream") as messages:
        alone = list(messages)
    with open_stream(held.id) as messages:
        among = [each for each in messages if each["event"] != "job"]
    assert among == [
        {
            "event": each["event"],
            "data": {"job_id": held.id} | each["data"],
            "id": f"{held.id}:{each['id']}",
        }
        for each in alone
    ]


def test_values_come_at_the_start_and_after_changes_at_most_once_a_second(
    work: Callable[..., Any], open_stream: Open, client: httpx2.Client
) -> None:
    held = work()
    with open_stream(held.id) as messages:
        started = until(messages, "job", held.id)[-1]["data"]
        shown = client.get(f"/jobs/{held.id}").json()
        assert started == {"job_id": held.id} | {name: shown[name] for name in started if name != "job_id"}
        assert {"state", "phase", "step", "last_metrics", "queue_position", "failure"} < started.keys()
        began = time.monotonic()
        for _ in range(8):
            held.record()
            time.sleep(0.2)
        held.fail()
        received = list(messages)
        seconds = time.monotonic() - began
    values = [each["data"] for each in received if each["event"] == "job"]
    assert 2 <= len(values) <= 1 + seconds
    assert [each["step"] for each in values] == sorted({each["step"] for each in values})
    assert (values[-1]["state"], values[-1]["step"], received[-1]["event"]) == ("failed", 8, "end")
    assert values[-1]["failure"]["reason"] == "non_finite_loss"


def test_a_queued_jobs_position_is_reported(
    sessions: Sessions, project_id: str, post: Callable[..., str], open_stream: Open
) -> None:
    ahead, queued = post(), post()
    with open_stream(queued) as messages:
        assert until(messages, "job", queued)[-1]["data"]["queue_position"] == 2
        with transaction(sessions) as session:
            JobService(session).cancel(project_id, ahead)
        assert until(messages, "job", queued)[-1]["data"]["queue_position"] == 1


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({}, 422, "invalid_request"),
        ({"job": [NO_JOB] * 9}, 422, "invalid_request"),
        ({"job": ["x"]}, 404, "job_not_found"),
        ({"job": [NO_JOB]}, 404, "job_not_found"),
        ({"job": [NO_JOB], "after": "1.2.3"}, 400, "invalid_cursor"),
        ({"job": [NO_JOB], "after": f"{NO_JOB}:1.2"}, 400, "invalid_cursor"),
        ({"job": [NO_JOB], "after": f"{NO_JOB}:1.2.3,"}, 400, "invalid_cursor"),
        ({"job": [NO_JOB], "since": "1"}, 422, "invalid_request"),
    ],
)
def test_a_wrong_request_is_refused(client: httpx2.Client, params: dict[str, Any], status: int, code: str) -> None:
    answer = client.get("/stream", params=params)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_nine_jobs_are_too_many(client: httpx2.Client) -> None:
    answer = client.get("/stream", params={"job": [NO_JOB] * 9}).json()
    assert [(each["pointer"], each["message"]) for each in answer["errors"]] == [
        ("/query/job", "List should have at most 8 items after validation, not 9")
    ]


def test_another_projects_job_is_not_found(
    client: httpx2.Client, work: Callable[..., Any], make_key: Callable[..., str]
) -> None:
    held = work()
    headers = {"Authorization": f"Bearer {make_key('other')}"}
    for path in (f"/stream?job={held.id}", f"/jobs/{held.id}/stream"):
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


def test_a_job_that_the_cursor_does_not_name_begins_at_its_start(work: Callable[..., Any], open_stream: Open) -> None:
    named, unnamed = work(), work()
    for held in (named, unnamed):
        held.record(3)
        held.fail()
    with open_stream(named.id, unnamed.id, after=f"{NO_JOB}:9.9.9,{named.id}:2.1.2") as messages:
        received = list(messages)
    assert sorted(facts(received)) == sorted(
        [
            (named.id, "job_event", None, 3),
            (named.id, "metrics", 1, 3),
            *((unnamed.id, "job_event", None, number) for number in (1, 2, 3)),
            *((unnamed.id, "metrics", 1, number) for number in (1, 2, 3)),
        ]
    )
    assert NO_JOB not in received[-1]["id"]


def test_last_event_id_wins_over_after(work: Callable[..., Any], open_stream: Open) -> None:
    held = work()
    held.record(3)
    held.fail()
    with open_stream(held.id, after="nothing", last=f"{held.id}:3.1.1") as messages:
        assert facts(list(messages)) == [(held.id, "metrics", 1, 2), (held.id, "metrics", 1, 3)]
    path = f"/jobs/{held.id}/stream"
    with open_stream(path=path, after="3.1.2") as messages:
        assert [each["id"] for each in messages] == ["3.1.3", "3.1.3"]
    with open_stream(path=path, after="nothing", last="3.1.1") as messages:
        assert [each["id"] for each in messages] == ["3.1.2", "3.1.3", "3.1.3"]


def test_a_deleted_job_leaves_the_stream_and_the_others_stay(
    sessions: Sessions, project_id: str, post: Callable[..., str], work: Callable[..., Any], open_stream: Open
) -> None:
    other = work()
    deleted = post()
    with (
        open_stream(deleted, other.id) as messages,
        open_stream(path=f"/jobs/{deleted}/stream") as alone,
    ):
        until(messages, "job_event", deleted)
        next(alone)
        # In one transaction: the stream would end with the job's end.
        with transaction(sessions) as session:
            JobService(session).cancel(project_id, deleted)
            JobService(session).delete(project_id, deleted)
        assert until(messages, "deleted", deleted)[-1]["data"] == {"job_id": deleted}
        assert "end" not in [each["event"] for each in alone]
        other.record()
        until(messages, "metrics", other.id)


def test_a_stream_ends_within_five_seconds_after_its_key(
    sessions: Sessions, work: Callable[..., Any], open_stream: Open, client: httpx2.Client
) -> None:
    held = work()
    with open_stream(held.id) as messages:
        until(messages, "job_event", held.id)
        with transaction(sessions) as session:
            KeyService(session).revoke(id_of(client.headers["Authorization"].removeprefix("Bearer ")))
        revoked_at = time.monotonic()
        assert "end" not in [each["event"] for each in messages]
        assert time.monotonic() - revoked_at < 5
