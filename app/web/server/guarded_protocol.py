"""Bounds what a client without a complete request can occupy in uvicorn's HTTP/1.1 protocol.

`--http app.web.server.guarded_protocol:GuardedProtocol` makes uvicorn use it. It builds on uvicorn's own attributes, so
`pyproject.toml` allows only the minor version that it was tested with.
"""

import asyncio
import math
import os
import resource
from collections import OrderedDict
from http import HTTPStatus
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from app.web.answers.policy import NOTHING_LOADED, OF_EVERY_ANSWER
from app.web.errors import HeadersTooLarge
from app.web.problems import ProblemDetails


class IdleConnections(OrderedDict["GuardedProtocol", None]):
    """Holds a server's connections to which no response is due, oldest first."""

    RECOUNT_SECONDS: ClassVar = 1.0

    def __init__(self) -> None:
        super().__init__()
        self._num_other_descriptors = 0
        self._recount_at = -math.inf

    def count_descriptors(self, num_connections: int, now: float) -> int:
        """Return how many descriptors the process has open. Those that are not connections are counted once a
        second."""
        if now >= self._recount_at:
            with os.scandir("/dev/fd") as opened:
                self._num_other_descriptors = len(list(opened)) - num_connections
            self._recount_at = now + self.RECOUNT_SECONDS
        return num_connections + self._num_other_descriptors


class GuardedProtocol(HttpToolsProtocol):
    """Handles one connection. It is aborted when its client makes no progress, and when descriptors run short while it
    is the oldest connection to which no response is due."""

    MAX_HEADER_BYTES: ClassVar = 64 * 1024
    """Limits the size of a request's URL, headers and trailers. A larger request is answered with 431."""
    MAX_HEADERS: ClassVar = 256
    """Limits the number of a request's headers and trailers. Each costs about 100 bytes of memory, however short it
    is."""
    HEADER_SECONDS: ClassVar = 10.0
    """Limits the time for a whole header, from the start of the connection or of the request."""
    BODY_SECONDS: ClassVar = 30.0
    """Limits the time without progress of a body, and the time for the rest of a body after its request was
    answered."""
    RESPONSE_SECONDS: ClassVar = 60.0
    """Limits the time without progress of a response whose client does not read."""
    CHECK_SECONDS: ClassVar = 1.0
    """Sets the time between two checks of a connection, which is also the accuracy of the deadlines."""
    SPARE_DESCRIPTORS: ClassVar = 256
    """Reserves descriptors for files and databases; at most a quarter of what the process may open."""

    _idle_by_server: ClassVar[WeakKeyDictionary[ServerState, IdleConnections]] = WeakKeyDictionary()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._idle = self._idle_by_server.setdefault(server_state, IdleConnections())
        self._num_header_bytes = 0
        """Counts the bytes received since the last read that ended a header or contained part of a body. Other bytes of
        that read, at most 256 KB, are not counted."""
        self._is_in_body = False
        self._is_refused = False
        self._deadline = math.inf
        """Is the time, by the loop's clock, until which the client must have sent more."""
        self._num_unsent = 0
        self._sent_at = self.loop.time()
        self._next_check: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle[self] = None
        self._expect_more_within(self.HEADER_SECONDS)
        self._check_later()
        if self._idle.count_descriptors(len(self.connections), self.loop.time()) > self._max_descriptors():
            next(iter(self._idle))._abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.pop(self, None)
        if self._next_check:
            self._next_check.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._num_header_bytes += len(data)
        super().data_received(data)
        has_too_many = self.headers is not None and len(self.headers) > self.MAX_HEADERS
        if (has_too_many or self._num_header_bytes > self.MAX_HEADER_BYTES) and not self._is_refused:
            self._refuse()

    def on_message_begin(self) -> None:
        self._expect_more_within(self.HEADER_SECONDS)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._has_large_header():
            self._refuse()
            raise HeadersTooLarge  # ends the parsing
        self._idle.pop(self, None)
        self._is_in_body = True
        self._num_header_bytes = 0
        self._expect_more_within(self.BODY_SECONDS)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._num_header_bytes = 0
        if not self.cycle.response_complete:
            self._expect_more_within(self.BODY_SECONDS)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_in_body = False
        self._num_header_bytes = 0
        self._deadline = math.inf
        if self.cycle.response_complete:
            self._expect_more_within(self.HEADER_SECONDS)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._idle[self] = None
            self._expect_more_within(self.BODY_SECONDS if self._is_in_body else self.HEADER_SECONDS)

    def resume_writing(self) -> None:
        self._sent_at = self.loop.time()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        if not self._is_refused:
            super().send_400_response(msg)

    def _has_large_header(self) -> bool:
        if len(self.headers) > self.MAX_HEADERS:
            return True
        if self._num_header_bytes <= self.MAX_HEADER_BYTES:
            return False
        # The received bytes may include a body.
        lines = sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)
        return len(self.url) + lines > self.MAX_HEADER_BYTES

    def _refuse(self) -> None:
        """Answer with 431, and discard what is received until the client closes: closing first could lose the
        answer."""
        self._is_refused = True
        if self._is_in_body and not (self.cycle.response_started or self.pipeline):
            self._end_cycle()
        elif self._is_in_body or self not in self._idle:
            self._abort()  # the client would take the answer for another request's
            return
        self.flow.resume_reading()
        self._expect_more_within(self.HEADER_SECONDS)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(_REFUSAL)).encode()),
            (b"connection", b"close"),
            NOTHING_LOADED,
            *OF_EVERY_ANSWER,
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[HeadersTooLarge.status] + lines + b"\r\n" + _REFUSAL)

    def _end_cycle(self) -> None:
        """Notify the application that the client has disconnected."""
        self.cycle.disconnected = True
        self.cycle.waiting_for_100_continue = False
        self.cycle.message_event.set()
        self._idle[self] = None

    def _expect_more_within(self, seconds: float) -> None:
        self._deadline = self.loop.time() + seconds

    def _check_later(self) -> None:
        self._next_check = self.loop.call_later(self.CHECK_SECONDS, self._check)

    def _check(self) -> None:
        now = self.loop.time()
        num_unsent = self.transport.get_write_buffer_size()
        if self._deadline < math.inf and (num_unsent or self._has_paused_client()):
            self._deadline = now + self.BODY_SECONDS
        if num_unsent == 0 or num_unsent < self._num_unsent:
            self._sent_at = now
        self._num_unsent = num_unsent
        if now >= self._deadline or now - self._sent_at >= self.RESPONSE_SECONDS:
            self._abort()
        else:
            self._check_later()

    def _has_paused_client(self) -> bool:
        """Return whether the client waits for the server: the application has not read what was sent, or has not asked
        for more."""
        return self.flow.read_paused or (self.cycle is not None and self.cycle.waiting_for_100_continue)

    def _abort(self) -> None:
        self._idle.pop(self, None)
        self.transport.abort()

    @classmethod
    def _max_descriptors(cls) -> float:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return math.inf if limit == resource.RLIM_INFINITY else limit - min(cls.SPARE_DESCRIPTORS, limit // 4)


def _describe_refusal() -> bytes:
    error = HeadersTooLarge(
        f"The URL, headers and trailers exceed {GuardedProtocol.MAX_HEADER_BYTES:,} bytes or "
        f"{GuardedProtocol.MAX_HEADERS} lines; send less."
    )
    problem = ProblemDetails(
        type=f"urn:tunewright:error:{error.code}",
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=str(error),
        instance="",
        code=error.code,
    )
    return problem.model_dump_json().encode()


_REFUSAL = _describe_refusal()
