"""Defines the errors of requests that concern the way of answering."""

from app.errors import Busy, TunewrightError


class TooManyWaiting(Busy):
    """The maximum number of requests is already waiting for a change; send the request again without `wait`, or in a
    few seconds."""

    code = "too_many_waiting"


class HeadersTooLarge(TunewrightError):
    """The request's URL, headers and trailers exceed 64 KiB or 256 lines."""

    status, code = 431, "headers_too_large"
