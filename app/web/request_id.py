"""`x-request-id` on every answer, and in every log line that is written on the way to it."""

import secrets
import time
from typing import Final

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

OPENAI_FACE: Final = "/v1"


class RequestIds:
    """The outermost layer: errors that nobody foresaw are answered below it, so that they carry an id as well.

    The id is always ours. One taken from a request could be used to hide in the lines of another."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        id, began = f"req_{secrets.token_hex(12)}", time.monotonic()
        is_openais = f"{scope['path']}/".startswith(f"{OPENAI_FACE}/")

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = id
                if is_openais:
                    headers["openai-processing-ms"] = str(round((time.monotonic() - began) * 1000))
            await send(message)

        with bound_contextvars(request_id=id):
            await self.app(scope, receive, send_marked)


def mark_answers(app: FastAPI) -> None:
    # Middleware that is added the usual way lies below the layer that answers 500.
    app.build_middleware_stack = lambda: RequestIds(FastAPI.build_middleware_stack(app))  # type: ignore[method-assign]
