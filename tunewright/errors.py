"""Defines the client's errors, from the server's answers or from the client itself."""

from collections.abc import Sequence
from typing import NamedTuple

import httpx2


class FieldError(NamedTuple):
    """Describes an invalid field: RFC 6901 pointer into the request, stable code, and a message with the correction."""

    pointer: str
    code: str
    message: str


class TunewrightError(Exception):
    """Raised when a call fails. `detail` says what to do, and `code` is stable; `status` is None without an answer from
    the server. `request_id` also appears in the server's log."""

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
    """Raised when there was no answer. Whether the request had an effect is not known."""

    def __init__(self, detail: str) -> None:
        super().__init__(None, "connection_failed", detail)


def error_of(response: httpx2.Response) -> TunewrightError:
    """Build the error from problem+json, or from any answer of a proxy. The body must have been read already."""
    status, id = response.status_code, response.headers.get("x-request-id")
    if response.headers.get("content-type", "").partition(";")[0] != "application/problem+json":
        said = f"{response.request.url.copy_with(query=None)} answered {status} {response.reason_phrase}"
        return TunewrightError(status, f"http_{status}", f"{said}; is this the address of a Tunewright server?", (), id)
    problem = response.json()
    errors = [FieldError(each["pointer"], each["code"], each["message"]) for each in problem["errors"]]
    return TunewrightError(status, problem["code"], problem["detail"], errors, id)
