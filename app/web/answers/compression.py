"""Compresses large JSON answers for clients that accept it."""

from collections.abc import Iterable
from typing import Final

from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.web.answers.codings import choose_coding, compress

LEAST_BYTES: Final = 4096
"""Is the size from which compression pays. A job takes less than 2 KiB, so that no poll pays for it: it would take
longer, and save no packet worth the name."""
BYTES_IN_LOOP: Final = 64 * 1024
"""Is the size up to which compressing takes less time than handing the body to a thread."""
FASTEST: Final = 1
JSON_TYPES: Final = (b"application/json", b"application/problem+json")
OF_BYTES: Final = frozenset((b"accept-ranges", b"content-encoding", b"content-range"))
"""Lists headers of answers that are sent as they are: stored bytes, and what is compressed already."""


class CompressedAnswers:
    """Is a layer that compresses answers of one message. It delays nothing: streams and downloads, which have several
    messages, pass as they are.

    An `ETag` becomes weak, because the bytes differ from those of another client. `If-None-Match` accepts it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        coding = choose_coding(scope["headers"]) if scope["type"] == "http" and scope["method"] != "HEAD" else None
        if coding is None:
            await self.app(scope, receive, send)
            return
        held: Message | None = None

        async def send_compressed(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and is_large_json(message["headers"]):
                held = message
                return
            if held is not None:
                start, held = held, None
                if not message.get("more_body"):
                    message["body"] = await compress_body(start, message["body"], coding)
                await send(start)
            await send(message)

        await self.app(scope, receive, send_compressed)


def is_large_json(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    given = dict(headers)
    is_large = int(given.get(b"content-length", 0)) >= LEAST_BYTES
    return is_large and given.get(b"content-type") in JSON_TYPES and not OF_BYTES & given.keys()


async def compress_body(start: Message, body: bytes, coding: str) -> bytes:
    """Compress the body, and change the headers of the answer's first message accordingly."""
    large = len(body) > BYTES_IN_LOOP
    packed = await run_in_threadpool(compress, body, coding, FASTEST) if large else compress(body, coding, FASTEST)
    headers = MutableHeaders(scope=start)
    headers["Content-Encoding"] = coding
    headers["Content-Length"] = str(len(packed))
    headers.add_vary_header("Accept-Encoding")
    tag = headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        headers["ETag"] = f"W/{tag}"
    return packed
