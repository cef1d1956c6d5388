import json
import re
import time
from typing import Any

import pytest

from tunewright import Client, ConnectionFailed, Event, MetricPoint, TunewrightError, watch

AT = "2026-01-05T10:12:13Z"


def event(number: int, type: str = "checkpoint_saved", message: str = "It was.", **data: Any) -> dict[str, Any]:
    said = {"number": number, "type": type, "level": "info", "message": message}
    return said | {"data": {"type": type, **data}, "created_at": AT}


def point(attempt: int, number: int, step: int, **values: float) -> dict[str, Any]:
    return {
        "attempt": attempt,
        "number": number,
        "step": step,
        "measured_at": AT,
        "values": values or {"loss": 1 / step},
    }


HISTORY = [event(1, "job_created"), event(2, "job_claimed", attempt=1, worker="w")]
HISTORY += [point(1, n, n) for n in range(1, 30)]
HISTORY += [event(3, message="Line one\u2028and \u0085 two"), event(4, "job_succeeded", num_artifacts=1)]


def sse(happened: list[dict[str, Any]], start: int = 0) -> bytes:
    """The cursor is the place in the list."""
    messages = [
        f"event: {'job_event' if 'type' in each else 'metrics'}\nid: {place}\n"
        f"data: {json.dumps(each, ensure_ascii=False)}\n\n"
        for place, each in enumerate(happened[start:], start + 1)
    ]
    return "".join(["retry: 2000\n\n: hello\n\n", *messages, 'event: end\ndata: {"state":"succeeded"}\n\n']).encode()


def raw(updates: Any) -> list[dict[str, Any]]:
    return [update.raw for update in updates]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watch, "FIRST_DELAY_SECONDS", 0.001)


@pytest.mark.parametrize("cut", [400, 401, 437, 512, 699, 1000, 2222])
def test_a_stream_cut_at_any_byte_tells_everything_once(server: Any, client: Client, cut: int) -> None:
    def stream(request: Any) -> None:
        body = sse(HISTORY, int(request.headers.get("Last-Event-ID", 0)))
        request.send(body[:cut], kind="text/event-stream; charset=utf-8", length=len(body))

    server.answers["GET /jobs/j/stream"] = stream
    assert raw(client.watch("j")) == HISTORY
    assert len(server.asked) > 2


def test_updates_are_typed(server: Any, client: Client) -> None:
    server.answers["GET /jobs/j/stream"] = lambda request: request.send(sse(HISTORY), kind="text/event-stream")
    first, *_, last_point, _, _ = client.watch("j")
    assert isinstance(first, Event)
    assert first.created_at.year == 2026
    assert isinstance(last_point, MetricPoint)
    assert last_point.step == 29


def test_204_says_that_all_was_told(server: Any, client: Client) -> None:
    def stream(request: Any) -> None:
        if "Last-Event-ID" in request.headers:
            request.send(b"", status=204)
        else:
            body = sse(HISTORY)
            request.send(body[: body.index(b"event: end")], kind="text/event-stream", length=len(body))

    server.answers["GET /jobs/j/stream"] = stream
    assert raw(client.watch("j")) == HISTORY


def test_a_server_that_restarts_is_waited_for(server: Any, client: Client) -> None:
    answers = iter([502, 503, 200])

    def stream(request: Any) -> None:
        status = next(answers)
        request.send(sse(HISTORY) if status == 200 else b"", status=status, kind="text/event-stream")

    server.answers["GET /jobs/j/stream"] = stream
    assert raw(client.watch("j")) == HISTORY


def test_a_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", 0.1)
    with Client("http://127.0.0.1:1", "tw_test") as client, pytest.raises(ConnectionFailed, match="server is running"):
        list(client.watch("j"))


def test_an_unknown_job_is_said_at_once(server: Any, client: Client) -> None:
    problem = {"code": "job_not_found", "detail": "No job has the id 'j'.", "errors": []}
    server.answers["GET /jobs/j/stream"] = lambda request: request.send(
        json.dumps(problem).encode(), 404, "application/problem+json"
    )
    with pytest.raises(TunewrightError) as caught:
        list(client.watch("j"))
    assert (caught.value.status, caught.value.code) == (404, "job_not_found")
    assert len(server.asked) == 1


class Job:
    """A job as the polled routes show it, a look at a time: each look is (state, events, points of the curve)."""

    def __init__(self, server: Any, *looks: tuple[str, list[dict[str, Any]], list[dict[str, Any]]]) -> None:
        self.looks = iter(looks)
        server.answers["GET /jobs/j"] = self.show
        server.answers["GET /jobs/j/events"] = lambda request: self.page(request, self.events, "number", "after")
        server.answers["GET /jobs/j/metrics"] = lambda request: self.page(request, self.curve, "step", "after_step")

    def show(self, request: Any) -> None:
        state, self.events, self.curve = next(self.looks)
        job = dict.fromkeys(
            ["name", "phase", "total_steps", "estimated_finish_at", "failure", "adapter_id", "retry_of", "created_by"]
        )
        job |= {"started_at": AT, "finished_at": None, "created_at": AT, "waiting_for": None, "attempt": 1}
        job |= {"id": "j", "state": state, "progress": 0.5, "step": 1, "last_metrics": {}, "base_model": "m"}
        job |= {"queue_position": None, "resolved": [], "exact": True, "resume_from": None, "inexact_resumes": []}
        request.send_json(job | {"method": "qlora", "spec": {}, "metadata": {}})

    def page(self, request: Any, items: list[dict[str, Any]], key: str, parameter: str) -> None:
        """Two items a page."""
        after = int(re.search(rf"\b{parameter}=(-?\d+)", request.query)[1])
        found = [item for item in items if item[key] > after]
        following = found[1][key] if len(found) > 2 else None
        request.send_json({"items": found[:2], f"next_{parameter}": following})


def refuse(request: Any) -> None:
    request.send(b"<html>", kind="text/html")


def break_at_once(request: Any) -> None:
    request.send(b"retry: 2000\n\n", kind="text/event-stream", length=1000)


def end_at_once(request: Any) -> None:
    request.send(b": nothing\n\n", kind="text/event-stream")


def keep_silent(request: Any) -> None:
    """As a proxy does that passes nothing on before the end."""
    time.sleep(0.5)
    request.send(b"", kind="text/event-stream")


@pytest.mark.parametrize("stream", [refuse, break_at_once, end_at_once, keep_silent])
def test_where_streams_are_held_back_the_job_is_polled(
    server: Any, client: Client, monkeypatch: pytest.MonkeyPatch, stream: Any
) -> None:
    monkeypatch.setattr(watch, "SILENCE", 0.1)
    server.answers["GET /jobs/j/stream"] = stream
    events = [event(1, "job_created"), event(2, "job_claimed", attempt=1, worker="w"), event(3, "job_succeeded")]
    curve = [point(1, n, n) for n in range(1, 8)]
    evaluated = [*curve[:4], point(1, 9, 5, loss=1 / 5, validation_loss=2.0), *curve[5:]]
    Job(server, ("running", events[:1], []), ("running", events[:2], curve[:5]), ("succeeded", events, evaluated))
    told = raw(client.watch("j"))
    assert [each for each in told if "type" in each] == events
    points = [each for each in told if "type" not in each]
    assert points == [*curve[:5], evaluated[4] | {"values": {"validation_loss": 2.0}}, *curve[5:]]


@pytest.mark.parametrize("resumed_after", [0, 3])
def test_a_later_attempt_is_told_from_where_it_went_on(server: Any, client: Client, resumed_after: int) -> None:
    server.answers["GET /jobs/j/stream"] = lambda request: request.send(b"", kind="text/html")
    events = [event(1, "job_claimed", attempt=1, worker="w"), event(2, "job_claimed", attempt=2, worker="w")]
    if resumed_after:
        events.append(event(3, "job_resumed", attempt=2, step=resumed_after))
    first = [point(1, n, n) for n in range(1, 6)]
    second = [point(2, n, resumed_after + n) for n in range(1, 7)]
    kept = first[:resumed_after]
    looks = [("running", events[:1], first), ("running", events, kept), ("running", events, kept + second[:3])]
    Job(server, *looks, ("succeeded", events, kept + second))
    told = raw(client.watch("j"))
    assert [each for each in told if "type" not in each] == first + second
