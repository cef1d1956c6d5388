"""Defines the client's errors."""

from collections.abc import Sequence
from typing import NamedTuple

import httpx2


class FieldError(NamedTuple):
    """Describes an invalid field: RFC 6901 pointer into the request, stable code, and a message with the correction."""

    pointer: str
    code: str
    message: str


class TunewrightError(Exception):
    """Raised when a call fails.

    `code` is stable; `detail` says what happened and what to do. `status` is the HTTP status, or None without a
    response. `request_id` also appears in the server's log."""

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
    """Raised when there was no complete response. The request may have taken effect."""

    def __init__(self, detail: str) -> None:
        super().__init__(None, "connection_failed", detail)


def read_error(response: httpx2.Response) -> TunewrightError:
    """Build the error from a response, problem+json or any other. Its body must have been read."""
    status, id = response.status_code, response.headers.get("x-request-id")
    if response.headers.get("content-type", "").partition(";")[0] != "application/problem+json":
        answer = f"{response.request.url.copy_with(query=None)} returned {status} {response.reason_phrase}"
        detail = f"{answer}. Check that this is the URL of a Tunewright server."
        return TunewrightError(status, f"http_{status}", detail, (), id)
    problem = response.json()
    errors = [FieldError(each["pointer"], each["code"], each["message"]) for each in problem["errors"]]
    return TunewrightError(status, problem["code"], problem["detail"], errors, id)
