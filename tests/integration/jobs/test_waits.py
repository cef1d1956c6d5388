"""`GET /jobs/{id}?wait=30`: long polling, on a real server."""

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from app.db.session import Sessions, transaction
from app.jobs import waits
from app.jobs.queue.repository import Claim
from app.settings import Settings
from tests.fixtures.api_process import serving_api
from tunewright import Client
from tunewright.command_line import app
from tunewright.errors import TunewrightError
from tunewright.transport import Transport

Post = Callable[..., str]
Take = Callable[..., Claim | None]
SOON = 5.0
"""Seconds in which a change must arrive on a busy machine; on a quiet one it takes less than one."""


@pytest.fixture
def client(live_server: str, make_key: Callable[..., str], project_id: str) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {make_key()}"}
    with httpx2.Client(base_url=live_server, headers=headers, timeout=60, trust_env=False) as client:
        yield client


def later(act: Callable[[], object], seconds: float = 0.3) -> threading.Thread:
    def run() -> None:
        time.sleep(seconds)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def timed(client: httpx2.Client, path: str, **headers: str) -> tuple[httpx2.Response, float]:
    began = time.monotonic()
    answer = client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return answer, time.monotonic() - began


def test_a_change_ends_the_wait(client: httpx2.Client, post: Post, claim: Take) -> None:
    """With the tag of the last answer and without one."""
    id = post()
    tag = client.get(f"/jobs/{id}").headers["etag"]
    changing = later(claim)
    answer, seconds = timed(client, f"/jobs/{id}?wait=60", If_None_Match=tag)
    changing.join()
    assert (answer.status_code, answer.json()["state"]) == (200, "running")
    assert 0.2 < seconds < SOON
    changing = later(lambda: httpx2.post(f"{client.base_url}/jobs/{id}/pause", headers=client.headers, trust_env=False))
    answer, seconds = timed(client, f"/jobs/{id}?wait=60")
    changing.join()
    assert answer.json()["state"] == "pausing"
    assert 0.2 < seconds < SOON


def test_what_has_changed_already_is_answered_at_once(client: httpx2.Client, post: Post, claim: Take) -> None:
    id = post()
    tag = client.get(f"/jobs/{id}").headers["etag"]
    claim()
    answer, seconds = timed(client, f"/jobs/{id}?wait=60", If_None_Match=tag)
    assert (answer.status_code, answer.json()["state"]) == (200, "running")
    assert seconds < SOON


def test_without_a_change_the_wait_ends_after_its_time(client: httpx2.Client, post: Post, claim: Take) -> None:
    id = post()
    claim()
    tag = client.get(f"/jobs/{id}").headers["etag"]
    answer, seconds = timed(client, f"/jobs/{id}?wait=1", If_None_Match=tag)
    assert answer.status_code == 304
    assert 1 <= seconds < 1 + SOON
    answer, seconds = timed(client, f"/jobs/{id}?wait=1")
    assert (answer.status_code, answer.headers["etag"]) == (200, tag)
    assert seconds >= 1


def test_a_final_job_is_not_waited_for(client: httpx2.Client, post: Post) -> None:
    """If the client already has the final answer, the wait takes its time, so that a careless loop does not spin."""
    id = post()
    client.post(f"/jobs/{id}/cancel")
    answer, seconds = timed(client, f"/jobs/{id}?wait=60")
    assert (answer.json()["state"], answer.status_code) == ("cancelled", 200)
    assert seconds < SOON
    answer, seconds = timed(client, f"/jobs/{id}?wait=1", If_None_Match=answer.headers["etag"])
    assert answer.status_code == 304
    assert seconds >= 1


def test_a_change_outside_the_jobs_row_ends_the_wait(
    client: httpx2.Client, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queued job moves up when another one is cancelled."""
    monkeypatch.setattr(waits, "QUEUE_SECONDS", 0.2)
    first, second = post(), post()
    url = f"{client.base_url}/jobs/{first}/cancel"
    changing = later(lambda: httpx2.post(url, headers=client.headers, trust_env=False))
    answer, seconds = timed(client, f"/jobs/{second}?wait=60")
    changing.join()
    assert answer.json()["queue_position"] == 1
    assert seconds < SOON


def test_a_job_that_is_deleted_during_the_wait_is_not_found(
    client: httpx2.Client, sessions: Sessions, post: Post
) -> None:
    id = post()

    def delete() -> None:
        with transaction(sessions) as session:
            session.execute(text("DELETE FROM jobs"))

    changing = later(delete)
    answer, seconds = timed(client, f"/jobs/{id}?wait=60")
    changing.join()
    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
    assert seconds < SOON


def test_the_client_waits_for_the_end(
    client: httpx2.Client, post: Post, claim: Take, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client asks again only when the job changes, so it sends few requests."""
    id, url, key = post(), str(client.base_url), client.headers["Authorization"].removeprefix("Bearer ")
    asked: list[Any] = []
    request = Transport.request
    monkeypatch.setattr(Transport, "request", lambda *given, **more: (asked.append(more), request(*given, **more))[1])

    def end() -> None:
        claim()
        time.sleep(1)
        with transaction(sessions) as session:
            session.execute(text("UPDATE jobs SET state = 'cancelling'"))
            session.execute(text("UPDATE jobs SET state = 'cancelled', finished_at = now(), lease_until = NULL"))

    with Client(url, key) as ours:
        with pytest.raises(TimeoutError, match=r"still queued after 1 seconds\. The job continues"):
            ours.wait(id, timeout=1)
        assert len(asked) <= 2
        changing = later(end)
        assert ours.wait(id, timeout=60).state == "cancelled"
        changing.join()
    assert len(asked) <= 9
    monkeypatch.setenv("TUNEWRIGHT_URL", url)
    monkeypatch.setenv("TUNEWRIGHT_API_KEY", key)
    with pytest.raises(TunewrightError, match="was cancelled"):
        app(["jobs", "wait", id], standalone_mode=False)


@pytest.mark.parametrize("seconds", ["0", "61", "x", "1.5"])
def test_a_wait_outside_the_limits_is_refused(client: httpx2.Client, post: Post, seconds: str) -> None:
    assert client.get(f"/jobs/{post()}?wait={seconds}").status_code == 422


def test_hundreds_of_waits_do_not_slow_other_requests(
    client: httpx2.Client, post: Post, claim: Take, sessions: Sessions
) -> None:
    """There are five times as many as the server has threads, and twenty times as many as its read connections."""
    id, other = post(), post()
    claim()
    asyncio.run(_wait_by_hundreds(client, id, other, sessions))


async def _wait_by_hundreds(client: httpx2.Client, id: str, other: str, sessions: Sessions) -> None:
    limits = httpx2.Limits(max_connections=None)
    asked: dict[str, Any] = {"base_url": client.base_url, "headers": client.headers, "trust_env": False}
    async with httpx2.AsyncClient(**asked, limits=limits, timeout=60) as many:
        first = await many.get(f"/jobs/{id}")
        tag = {"If-None-Match": first.headers["etag"]}
        waiting = [asyncio.create_task(many.get(f"/jobs/{id}?wait=60", headers=tag)) for _ in range(200)]
        await asyncio.sleep(1)
        assert not any(task.done() for task in waiting)
        began = time.monotonic()
        for _ in range(20):
            assert (await many.get(f"/jobs/{other}")).status_code == 200
        assert time.monotonic() - began < 20 * 0.5
        with transaction(sessions) as session:
            session.execute(text("UPDATE jobs SET step = 7 WHERE id = :id"), {"id": id})
        answers = await asyncio.wait_for(asyncio.gather(*waiting), 2 * SOON)
        assert {(answer.status_code, answer.json()["step"]) for answer in answers} == {(200, 7)}


def test_the_number_of_waits_is_limited(client: httpx2.Client, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that disconnects makes room for another one."""
    monkeypatch.setattr(waits, "MOST_WAITING", 1)
    path = f"/jobs/{post()}?wait="
    with pytest.raises(httpx2.ReadTimeout):
        client.get(f"{path}60", timeout=0.5)
    deadline = time.monotonic() + SOON
    while (status := client.get(f"{path}1").status_code) != 200:
        assert status == 503
        assert time.monotonic() < deadline
    with httpx2.Client(base_url=client.base_url, headers=client.headers, trust_env=False) as other:
        thread = threading.Thread(target=lambda: client.get(f"{path}2"))
        thread.start()
        time.sleep(0.5)
        refused = other.get(f"{path}60")
        thread.join()
    assert (refused.status_code, refused.json()["code"]) == (503, "too_many_waiting")
    assert refused.headers["retry-after"] == "5"


def test_a_server_that_stops_ends_every_wait(
    settings: Settings, make_key: Callable[..., str], post: Post, claim: Take
) -> None:
    """With uvicorn as the container runs it, which would otherwise wait for the requests and then abort them."""
    id = post()
    claim()
    headers = {"Authorization": f"Bearer {make_key()}"}
    with (
        serving_api(settings) as (url, server),
        httpx2.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as http,
    ):
        tag = http.get(f"/jobs/{id}").headers["etag"]
        stopping = later(lambda: server.send_signal(signal.SIGTERM), 0.5)
        answer, seconds = timed(http, f"/jobs/{id}?wait=60", If_None_Match=tag)
        stopping.join()
        assert answer.status_code == 304
        assert 0.4 < seconds < 0.5 + SOON
        server.wait(timeout=SOON)
