"""Adds `x-request-id` to every answer and every log line of a request, logs one line for each request, and restricts
what browsers may do with each answer."""

import secrets
import time
from contextlib import suppress
from typing import Any, Final

import structlog
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from app.web.answers.compression import CompressedAnswers
from app.web.answers.policy import restrict

OPENAI_FACE: Final = "/v1"
CALLER: Final = "tunewright.caller"
"""Is the key in the scope of the caller whose API key was sent, whether the request is valid or not."""
BY_COOKIE: Final = "tunewright.by_cookie"
"""Is the key in the scope of a request whose caller was found by its session cookie."""
ERROR_CODE: Final = "tunewright.error_code"
"""Is the key in the scope of the stable code of the error that was answered."""

log = structlog.get_logger()


class RequestIds:
    """Is the outermost layer: unexpected errors are answered below it, so that they carry an id as well.

    The id is always generated here. An id from a request could be used to hide among another request's log lines.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        id, began = f"req_{secrets.token_hex(12)}", time.monotonic()
        is_openais = f"{scope['path']}/".startswith(f"{OPENAI_FACE}/")
        status: int | None = None

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = id
                if BY_COOKIE in scope:
                    keep_from_shared_caches(headers)
                if is_openais:
                    headers["openai-processing-ms"] = str(round((time.monotonic() - began) * 1000))
                restrict(message)
            await send(message)

        with bound_contextvars(request_id=id):
            try:
                await self.app(scope, receive, send_marked)
            finally:
                # A full log is no reason to fail a request that has been answered.
                with suppress(OSError):
                    log.info("request", **describe(scope), status=status, ms=milliseconds_since(began))


def keep_from_shared_caches(headers: MutableHeaders) -> None:
    """Allow no cache to serve the answer to others. `Authorization` does so by itself (RFC 9111, 3.5); a cookie does
    not."""
    if headers.get("Cache-Control") != "no-store":
        headers["Cache-Control"] = "private, no-cache"


def describe(scope: Scope) -> dict[str, Any]:
    """Return what may be logged of a request: never its path, query, headers or body, which may contain secrets and
    users' texts."""
    route, caller = scope.get("route"), scope.get(CALLER)
    described = {
        "method": scope["method"],
        "route": scope.get("root_path", "") + route.path if route else None,
        "key": caller.key_id if caller else None,
        "project": caller.project_id if caller else None,
    }
    code = scope.get(ERROR_CODE)
    return described | {"code": code} if code else described


def milliseconds_since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)


def mark_answers(app: FastAPI) -> None:
    # Middleware that is added the usual way lies below the layer that answers 500.
    app.build_middleware_stack = lambda: RequestIds(CompressedAnswers(FastAPI.build_middleware_stack(app)))  # type: ignore[method-assign]
