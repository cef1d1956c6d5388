"""Defines the errors of requests for how to answer: waiting and headers."""

from app.errors import Busy, TunewrightError


class TooManyWaiting(Busy):
    """Too many requests are waiting for a change; send yours again without `wait`, or in a few seconds."""

    code = "too_many_waiting"


class HeadersTooLarge(TunewrightError):
    """The request's URL, headers and trailers exceed 64 KiB or 256 lines."""

    status, code = 431, "headers_too_large"
