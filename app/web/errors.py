"""What can be wrong with how a request asks to be answered."""

from app.errors import Busy, TunewrightError


class TooManyWaiting(Busy):
    """As many requests wait for a change as one server lets; ask again without `wait`, or in a few seconds."""

    code = "too_many_waiting"


class HeadersTooLarge(TunewrightError):
    """The request's URL, headers and trailers exceed 64 KiB or 256 lines."""

    status, code = 431, "headers_too_large"
