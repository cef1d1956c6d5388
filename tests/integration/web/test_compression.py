"""Tests which answers of the API are compressed, and that the others are not."""

import asyncio
import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from backports import zstd
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient

from app.web.conditional import conditional
from app.web.request_id import mark_answers

LARGE = [{"step": step, "value": step / 7} for step in range(2_000)]
PLAIN = json.dumps(LARGE).encode()


def build_app() -> FastAPI:
    app = FastAPI()
    mark_answers(app)
    app.get("/large")(lambda: JSONResponse(LARGE))
    app.get("/small")(lambda: JSONResponse(LARGE[:20]))
    app.get("/text")(lambda: Response(PLAIN, media_type="text/plain"))

    @app.get("/known")
    def get_known(request: Request) -> Response:
        return conditional(request, PLAIN)

    @app.get("/stored")
    def get_stored() -> Response:
        return Response(PLAIN, headers={"Accept-Ranges": "bytes"}, media_type="application/json")

    @app.get("/parts")
    def get_parts() -> StreamingResponse:
        headers = {"Content-Length": str(len(PLAIN))}
        return StreamingResponse(iter((PLAIN[:9], PLAIN[9:])), headers=headers, media_type="application/json")

    return app


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(build_app()) as client:
        yield client


def get_raw(client: TestClient, path: str, accepted: str, **headers: str) -> tuple[Any, bytes]:
    with client.stream("GET", path, headers={"Accept-Encoding": accepted, **headers}) as answer:
        body = b"".join(answer.iter_raw())
    assert "content-length" not in answer.headers or int(answer.headers["content-length"]) == len(body)
    return answer, body


@pytest.mark.parametrize(("coding", "unpack"), [("gzip", gzip.decompress), ("zstd", zstd.decompress)])
@pytest.mark.parametrize("path", ["/large", "/known"])
def test_a_large_answer_is_compressed(
    client: TestClient, path: str, coding: str, unpack: Callable[[bytes], bytes]
) -> None:
    answer, body = get_raw(client, path, coding)
    assert answer.headers["content-encoding"] == coding
    assert answer.headers["vary"] == "Accept-Encoding"
    assert json.loads(unpack(body)) == LARGE
    assert len(body) < len(PLAIN) / 3


@pytest.mark.parametrize("path", ["/small", "/text", "/stored", "/parts"])
def test_small_answers_streams_and_stored_bytes_are_sent_as_they_are(client: TestClient, path: str) -> None:
    answer, body = get_raw(client, path, "gzip, zstd")
    assert "content-encoding" not in answer.headers
    assert body == (json.dumps(LARGE[:20], separators=(",", ":")).encode() if path == "/small" else PLAIN)


@pytest.mark.parametrize("accepted", ["identity", "br", "gzip;q=0", ""])
def test_a_client_that_does_not_accept_it_gets_plain_json(client: TestClient, accepted: str) -> None:
    answer, body = get_raw(client, "/large", accepted)
    assert "content-encoding" not in answer.headers
    assert json.loads(body) == LARGE


def test_the_tag_of_a_compressed_answer_is_known(client: TestClient) -> None:
    """A compressed answer has a weak tag: its bytes differ from those of other clients."""
    plain, packed = (get_raw(client, "/known", accepted)[0].headers["etag"] for accepted in ("identity", "gzip"))
    assert packed == f"W/{plain}"
    for accepted in ("identity", "gzip"):
        for tag in (plain, packed):
            answer, body = get_raw(client, "/known", accepted, **{"If-None-Match": tag})
            assert (answer.status_code, body) == (304, b"")


def test_an_event_is_sent_at_once() -> None:
    """The stream ends only after its reader has got the first event."""
    app, sent = FastAPI(), asyncio.Event()
    mark_answers(app)

    async def events() -> Any:
        yield b"data: 1\n\n"
        await asyncio.wait_for(sent.wait(), 5)

    app.get("/events")(lambda: StreamingResponse(events(), media_type="text/event-stream"))

    async def send(message: Any) -> None:
        if message.get("body"):
            assert message["body"] == b"data: 1\n\n"
            sent.set()

    async def receive() -> Any:
        await asyncio.sleep(10)

    headers = [(b"accept-encoding", b"gzip, zstd")]
    scope = {"type": "http", "method": "GET", "path": "/events", "headers": headers, "query_string": b""}
    scope |= {
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
    }
    asyncio.run(asyncio.wait_for(app(scope, receive, send), 5))


def test_metrics_lists_and_the_document_are_compressed(api: TestClient) -> None:
    """`httpx2` decodes them like every client."""
    answer: httpx2.Response = api.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert "/jobs" in answer.json()["paths"]
