"""What can go wrong, as the server says it or as the client sees it."""

from collections.abc import Sequence
from typing import NamedTuple

import httpx2


class FieldError(NamedTuple):
    """One bad field: RFC 6901 pointer into what was sent, stable code, what to write instead."""

    pointer: str
    code: str
    message: str


class TunewrightError(Exception):
    """`detail` says what to do, and `code` is stable; `status` is None where no answer of the server is behind it.
    `request_id` is found in the server's log."""

    def __init__(
        self,
        status: int | None,
        code: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = list(errors)
        self.request_id = request_id


class ConnectionFailed(TunewrightError):
    """No answer came; whether the request had an effect is not known."""

    def __init__(self, detail: str) -> None:
        super().__init__(None, "connection_failed", detail)


def error_of(response: httpx2.Response) -> TunewrightError:
    """From problem+json, or from whatever a proxy in between has answered. The body must have been read."""
    status, id = response.status_code, response.headers.get("x-request-id")
    if response.headers.get("content-type", "").partition(";")[0] != "application/problem+json":
        said = f"{response.request.url.copy_with(query=None)} answered {status} {response.reason_phrase}"
        return TunewrightError(status, f"http_{status}", f"{said}; is this the address of a Tunewright server?", (), id)
    problem = response.json()
    errors = [FieldError(each["pointer"], each["code"], each["message"]) for each in problem["errors"]]
    return TunewrightError(status, problem["code"], problem["detail"], errors, id)
