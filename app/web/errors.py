"""What can be wrong with how a request asks to be answered."""

from app.errors import TunewrightError


class TooManyWaiting(TunewrightError):
    """As many requests wait for a change as one server lets; ask again without `wait`, or in a few seconds."""

    status, code = 503, "too_many_waiting"


class HeadersTooLarge(TunewrightError):
    """The request's URL, headers and trailers exceed 64 KiB or 256 lines."""

    status, code = 431, "headers_too_large"
